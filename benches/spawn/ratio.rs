//! Ratios that decide: the closed sandbox against the bare kernel cost of the same isolation, and hosts that are large
//! or busy against one that is neither.
//!
//! Each kind of host is a process of its own, and all of them are asked for short blocks of runs in turn. Sixteen
//! threads that allocate take processor time from whoever runs beside them; what they cost a spawn *because they share
//! its address space* is the ratio to a host beside whose process the same threads run in another one.

use super::serve::{Kind, floor, while_threads_allocate};
use super::statistics::Times;

/// Blocks of each kind.
const BLOCKS: usize = 40;

/// Measures and prints the ratios.
pub(crate) fn measure() {
    if let Err(reason) = floor() {
        println!("no floor here: {reason}");
        return;
    }
    let mut small = Kind::Small.start();
    let mut large = Kind::Resident(2048).start();
    let mut threads = Kind::Threads.start();
    let mut rows: [(&str, Times); 6] = [
        "floor",
        "small host",
        "floor, 2 GiB resident",
        "host with 2 GiB resident",
        "small host, 16 threads allocate in another process",
        "host in which 16 threads allocate",
    ]
    .map(|name| (name, Times::default()));
    for _ in 0..BLOCKS {
        rows[0].1.extend(small.block("floor"));
        rows[1].1.extend(small.block("cold"));
        rows[2].1.extend(large.block("floor"));
        rows[3].1.extend(large.block("cold"));
        rows[4].1.extend(while_threads_allocate(|| small.block("cold")));
        rows[5].1.extend(threads.block("cold"));
    }
    let medians = rows.map(|(name, times)| {
        let median = times.median();
        println!("{median:7.0} µs  {name}");
        median
    });
    let [floor, small, large_floor, large, beside, threads] = medians;
    println!("sandbox / floor: {:.2}", small / floor);
    println!("sandbox / floor, 2 GiB resident: {:.2}", large / large_floor);
    println!("2 GiB resident / small: {:.2}", large / small);
    println!("16 threads allocating in the host / in another process: {:.2}", threads / beside);
}
