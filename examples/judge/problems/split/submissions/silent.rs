// Says nothing.
fn main() {}
