//! The page's built files are compiled in: a change of them is a change of the program.

fn main() {
    println!("cargo:rerun-if-changed=../dist");
}
