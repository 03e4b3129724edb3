// Halves what is left.
use std::io::stdin;

fn main() {
    let (mut low, mut high) = (1_u32, 1_000_000);
    loop {
        let guess = (low + high) / 2;
        println!("{guess}");
        let mut answer = String::new();
        stdin().read_line(&mut answer).unwrap();
        match answer.trim() {
            "higher" => low = guess + 1,
            "lower" => high = guess - 1,
            _ => break,
        }
    }
}
