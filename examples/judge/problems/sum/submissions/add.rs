// Adds.
fn main() {
    let sum: i64 = std::io::stdin().lines().skip(1).map(|line| line.unwrap().parse::<i64>().unwrap()).sum();
    println!("{sum}");
}
