// Keeps a vector of vectors.
fn main() {
    let mut all = Vec::new();
    loop {
        all.push(vec![all.len(); 1 << 16]);
    }
}
