//! Part of the library's test build only: the init itself has no test harness.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::*;

const MS: u64 = 1_000_000;

#[test]
fn zero_means_no_limit() {
    let mut limits = Limits::new(5, 0, 0, 0);
    assert_eq!((limits.wall_at, limits.cpu, limits.next()), (None, None, None));
    assert!(!limits.wall_passed(u64::MAX));
    assert_eq!(limits.look(5, u64::MAX, 1), Look::Fine);
    assert_eq!(limits.next(), None, "a look without a limit plans no other");
}

#[test]
fn the_wall_clock_counts_from_the_start() {
    let limits = Limits::new(1000, 50, 0, 0);
    assert_eq!(limits.next(), Some(1050));
    assert!(!limits.wall_passed(1049));
    assert!(limits.wall_passed(1050));
    assert!(limits.wall_passed(u64::MAX));
}

#[test]
fn a_start_has_its_own_deadline() {
    let limits = Limits::of_start(1000);
    assert!(!limits.wall_passed(1000 + 59_000 * MS));
    assert!(limits.wall_passed(1000 + 60_000 * MS));
    assert_eq!(limits.cpu, None);
}

#[test]
fn far_deadlines_saturate() {
    let mut limits = Limits::new(1000, u64::MAX, u64::MAX, 0);
    assert_eq!(limits.wall_at, Some(u64::MAX));
    assert_eq!(limits.look(1000, 0, 1), Look::Fine);
    assert_eq!(limits.look_at, u64::MAX);
}

#[test]
fn cpu_time_is_used_up_exactly_at_the_limit() {
    let mut limits = Limits::new(0, 0, 100 * MS, 0);
    assert_eq!(limits.look(0, 100 * MS - 1, 1), Look::Fine);
    assert_eq!(limits.look(0, 100 * MS, 1), Look::TooMuch);
    assert_eq!(limits.look(0, u64::MAX, 1), Look::TooMuch);
}

#[test]
fn the_next_look_is_when_all_processors_could_have_used_the_rest() {
    let mut limits = Limits::new(7, 0, 100 * MS, 0);
    assert_eq!(limits.next(), Some(7), "the first look is at once");
    assert_eq!(limits.look(1000, 20 * MS, 4), Look::Fine);
    assert_eq!(limits.next(), Some(1000 + 20 * MS));
    assert_eq!(limits.look(1000, 20 * MS, 0), Look::Fine, "no processors count as one");
    assert_eq!(limits.next(), Some(1000 + 80 * MS));
}

#[test]
fn looks_are_never_closer_than_the_floor() {
    let mut limits = Limits::new(0, 0, 100 * MS, 0);
    assert_eq!(limits.look(1000, 100 * MS - 1, 64), Look::Fine);
    assert_eq!(limits.next(), Some(1000 + FLOOR_NS));
}

#[test]
fn the_earlier_of_both_limits_is_next() {
    let mut limits = Limits::new(0, 50 * MS, 100 * MS, 0);
    assert_eq!(limits.look(0, 0, 1), Look::Fine);
    assert_eq!(limits.next(), Some(50 * MS), "the wall clock before the look");
    assert_eq!(limits.look(0, 90 * MS, 1), Look::Fine);
    assert_eq!(limits.next(), Some(10 * MS), "the look before the wall clock");
}

#[test]
fn doing_nothing_is_noticed_and_doing_something_starts_again() {
    let mut limits = Limits::new(0, 0, 0, 100 * MS);
    assert_eq!(limits.look(0, 0, 1), Look::Fine);
    assert_eq!(limits.look(60 * MS, MS / 2, 1), Look::Fine, "half a millisecond is nothing");
    assert_eq!(limits.look(99 * MS, MS, 1), Look::Fine, "a whole one is something");
    assert_eq!(limits.look(198 * MS, MS, 1), Look::Fine);
    assert_eq!(limits.look(199 * MS, 2 * MS - 1, 1), Look::Idle);
}

#[test]
fn looks_for_idleness_come_often_enough_and_at_its_end() {
    let mut limits = Limits::new(0, 0, 0, 80 * MS);
    assert_eq!(limits.look(0, 0, 1), Look::Fine);
    assert_eq!(limits.next(), Some(10 * MS));
    assert_eq!(limits.look(77 * MS, 0, 1), Look::Fine);
    assert_eq!(limits.next(), Some(80 * MS));
}

#[test]
fn usage_of_version_1_is_nanoseconds() {
    assert_eq!(parse_usage(b"0\n", false), Some(0));
    assert_eq!(parse_usage(b"1234567890\n", false), Some(1_234_567_890));
    assert_eq!(parse_usage(b"18446744073709551615\n", false), Some(u64::MAX));
}

#[test]
fn usage_of_version_2_is_microseconds_behind_a_key() {
    let text = b"usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
    assert_eq!(parse_usage(text, true), Some(1_500_000));
    assert_eq!(parse_usage(b"usage_usec 0\n", true), Some(0));
    // What a read of a small buffer leaves.
    assert_eq!(parse_usage(b"usage_usec 7", true), Some(7000));
}

#[test]
fn usage_that_is_no_number_is_refused() {
    let garbage: [&[u8]; 7] = [b"", b"\n", b" 1", b"-1", b"+1", b"usage_usec 1", b"\xff\xfe"];
    for text in garbage {
        assert_eq!(parse_usage(text, false), None, "{text:?}");
    }
    let garbage: [&[u8]; 7] = [
        b"",
        b"1500\n",
        b"usage_usec",
        b"usage_usec ",
        b"usage_usec x",
        b"user_usec 1\nusage_usec 2",
        b"usage_usec  1",
    ];
    for text in garbage {
        assert_eq!(parse_usage(text, true), None, "{text:?}");
    }
}

#[test]
fn usage_that_overflows_is_refused() {
    assert_eq!(parse_usage(b"18446744073709551616", false), None, "the last addition");
    assert_eq!(parse_usage(b"99999999999999999999999", false), None, "the multiplication by 10");
    assert_eq!(parse_usage(b"usage_usec 18446744073709551", true), Some(18_446_744_073_709_551_000));
    assert_eq!(parse_usage(b"usage_usec 18446744073709552", true), None, "the conversion to nanoseconds");
}

/// Takes a sample of processes, given as (id, CPU time).
fn sample(sampler: &mut Sampler, processes: &[(u32, u64)]) -> u64 {
    let clocks: BTreeMap<u32, u64> = processes.iter().copied().collect();
    sampler.sample(|pid| clocks.get(&pid).copied())
}

#[test]
fn live_processes_are_summed() {
    let mut sampler = Sampler::new();
    assert_eq!(sample(&mut sampler, &[]), 0);
    assert_eq!(sample(&mut sampler, &[(2, 10), (3, 5)]), 15);
    assert_eq!(sample(&mut sampler, &[(2, 12), (3, 5)]), 17, "clocks are read anew, not added up");
}

#[test]
fn the_init_is_not_counted() {
    assert_eq!(sample(&mut Sampler::new(), &[(0, 1000), (1, 1000), (2, 1)]), 1);
}

#[test]
fn what_a_vanished_process_used_stays_counted_once() {
    let mut sampler = Sampler::new();
    assert_eq!(sample(&mut sampler, &[(2, 10), (3, 5)]), 15);
    assert_eq!(sample(&mut sampler, &[(2, 11)]), 16);
    assert_eq!(sample(&mut sampler, &[(2, 11)]), 16);
    assert_eq!(sample(&mut sampler, &[]), 16);
}

#[test]
fn a_reused_id_does_not_forget_the_first_process() {
    let mut sampler = Sampler::new();
    assert_eq!(sample(&mut sampler, &[(2, 10)]), 10);
    assert_eq!(sample(&mut sampler, &[(2, 4)]), 14, "reused between two samples: the clock went back");
    assert_eq!(sample(&mut sampler, &[(2, 6)]), 16);
    assert_eq!(sample(&mut sampler, &[]), 16);
    assert_eq!(sample(&mut sampler, &[(2, 30)]), 46, "reused after a sample without it");
}

#[test]
fn the_sum_never_falls() {
    let mut sampler = Sampler::new();
    let steps: [&[(u32, u64)]; 6] =
        [&[(2, 9)], &[(2, 1), (3, 1)], &[(3, 2)], &[], &[(2, 1), (3, 1)], &[(2, 8), (200, 3)]];
    let sums: Vec<u64> = steps.into_iter().map(|step| sample(&mut sampler, step)).collect();
    assert_eq!(sums, [9, 11, 12, 12, 14, 24]);
    assert!(sums.is_sorted());
}

#[test]
fn the_window_moves_with_the_highest_id() {
    let window = u32::try_from(Sampler::WINDOW).unwrap();
    let mut sampler = Sampler::new();
    assert_eq!(sample(&mut sampler, &[(window, 1)]), 0, "beyond the window");
    // The window is that of the sample before, so a process above moves it for the next one.
    assert_eq!(sample(&mut sampler, &[(window - 1, 1), (window + 10, 1)]), 1);
    assert_eq!(sample(&mut sampler, &[(window - 1, 1), (window + 10, 1)]), 2);
    assert_eq!(sample(&mut sampler, &[(2, 1)]), 3);
    assert_eq!(sample(&mut sampler, &[(2 * window + 9, 7)]), 10, "it does not move back");
}

#[test]
fn a_sample_asks_for_the_window_only() {
    let (asked, highest) = (Cell::new(0_usize), Cell::new(0));
    let ask = |pid| {
        asked.set(asked.get() + 1);
        highest.set(pid);
        None
    };
    Sampler::new().sample(ask);
    assert_eq!((asked.get(), highest.get() as usize), (Sampler::WINDOW - 2, Sampler::WINDOW - 1));
}

#[test]
fn ids_beyond_the_table_are_not_sampled() {
    let last = u32::try_from(Sampler::PIDS).unwrap() - 1;
    let mut sampler = Sampler::new();
    // Every id is in use, so that the window reaches the end of the table.
    for _ in 0..=Sampler::PIDS / Sampler::WINDOW {
        sampler.sample(|pid| Some(u64::from(pid == 2)));
    }
    assert_eq!(
        sampler.sample(|pid| Some(u64::from(pid >= last))),
        1 + 1,
        "id 2 is retired, the last is live"
    );
    assert_eq!(sampler.highest, last as usize);
}
