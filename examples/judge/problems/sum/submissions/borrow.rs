// Does not compile.
fn main() {
    let sum = String::from("0");
    let moved = sum;
    println!("{sum} {moved}");
}
