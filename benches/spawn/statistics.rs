//! Times of many runs, and what is said of them.

use std::time::Instant;

/// How long something took, each time, in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Measures one run.
    pub(crate) fn time(&mut self, run: impl FnOnce()) {
        self.0.push(micros(run));
    }

    pub(crate) fn extend(&mut self, times: impl IntoIterator<Item = f64>) {
        self.0.extend(times);
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.at(0.99)
    }

    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index, below the length"
        )]
        let index = (sorted.len() as f64 * share) as usize;
        sorted[index.min(sorted.len() - 1)]
    }
}

pub(crate) fn micros(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() * 1e6
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures ways of doing something in turns, `block` runs of each in every round, with a moment before each block that is
/// not counted. Prints the median of each way, how many times that of the first it is, and the 99th percentile.
pub(crate) fn compare(rounds: usize, block: usize, before: &dyn Fn(), ways: &[(&str, &dyn Fn())]) {
    let mut times = vec![Times::default(); ways.len()];
    for _ in 0..rounds {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            before();
            for _ in 0..block {
                times.time(way);
            }
        }
    }
    let (first, base) = (ways[0].0, times[0].median());
    for ((name, _), times) in ways.iter().zip(&times) {
        let median = times.median();
        println!(
            "{median:7.0} µs  {name}: {:.2} times {first}, p99 {:.1} times its median",
            median / base,
            times.p99() / median
        );
    }
}
