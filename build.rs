//! The shipped project is compiled in: a change in it is a change of the program.

fn main() {
    println!("cargo:rerun-if-changed=warehouse");
    println!("cargo:rerun-if-changed=seeds");
    println!("cargo:rerun-if-changed=ballpoint.toml");
}
