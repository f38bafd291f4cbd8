//! ringport, the program.
fn main() {}
