// The largest prime for which the rest is prime, too.
fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|i| i * i <= n).all(|i| n % i != 0)
}

fn main() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let n: u64 = line.trim().parse().unwrap();
    let a = (0..n).rev().find(|a| is_prime(*a) && is_prime(n - a)).unwrap();
    println!("{a} {}", n - a);
}
