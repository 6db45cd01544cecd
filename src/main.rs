//! ballpoint
fn main() {}
