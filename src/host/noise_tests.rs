//! The parsers of what a machine says of itself, with what none should say.

use std::path::PathBuf;

use super::*;

#[test]
fn switches() {
    assert_eq!(parse_switch("0\n"), Some(false));
    assert_eq!(parse_switch("1"), Some(true));
    for odd in ["", "2", "-1", "on", "1 1", "01", "\0", "99999999999999999999"] {
        assert_eq!(parse_switch(odd), None, "{odd:?}");
    }
}

#[test]
fn choices() {
    assert_eq!(parse_choice("always [madvise] never\n").as_deref(), Some("madvise"));
    assert_eq!(parse_choice("[always]").as_deref(), Some("always"));
    for odd in ["", "always madvise never", "[", "]", "[]", "] [", "[ ]", "[never"] {
        assert_eq!(parse_choice(odd), None, "{odd:?}");
    }
    assert_eq!(parse_choice("[a\x1b[2J]").as_deref(), Some("a\\u{1b}[2J"), "no escapes for a terminal");
}

#[test]
fn swaps() {
    let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
    assert_eq!(parse_swaps(head), Some(Bytes::new(0)));
    let two = format!("{head}/dev/sda2 partition 1000 100 -2\n/swap\\040file file 2000 28 -3\n");
    assert_eq!(parse_swaps(&two), Some(Bytes::kib(128)));
    let huge = format!("{head}/a file 1 {max} -2\n/b file 1 {max} -3\n", max = u64::MAX);
    assert_eq!(parse_swaps(&huge), Some(Bytes::MAX), "sums saturate");
    for odd in ["", "x\n", "Filename\n/dev/sda2\n", "Filename\na b c d e\n", "Filename\na b c -1 e\n"] {
        assert_eq!(parse_swaps(odd), None, "{odd:?}");
    }
}

#[test]
fn loads() {
    assert_eq!(parse_load("0.50 1.00 2.00 1/100 1234\n"), Some(0.5));
    for odd in ["", "\n", "x 1 2", "NaN 0 0", "inf 0 0", "-1.0 0 0"] {
        assert_eq!(parse_load(odd), None, "{odd:?}");
    }
}

#[test]
fn words_are_short_and_printable() {
    assert_eq!(word(" core\n").as_deref(), Some("core"));
    assert_eq!(word("\n"), None);
    assert_eq!(word("a\nb\x07").as_deref(), Some("a\\nb\\u{7}"));
    assert_eq!(word(&"x".repeat(1 << 20)).map(|word| word.len()), Some(200));
}

/// A directory with files as `/proc` and `/sys` have them, removed at the end.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
        let root = std::env::temp_dir().join(format!("belljar-noise-{}-{name}", std::process::id()));
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self(root)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_noisy_machine_is_told_what_to_do() {
    let machine = Machine::new(
        "noisy",
        &[
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", b"powersave\n"),
            ("sys/devices/system/cpu/cpufreq/policy1/scaling_governor", b"performance\n"),
            ("sys/devices/system/cpu/cpufreq/policy2/scaling_governor", b"powersave\n"),
            ("sys/devices/system/cpu/intel_pstate/no_turbo", b"0\n"),
            // Not asked where the other is there.
            ("sys/devices/system/cpu/cpufreq/boost", b"0\n"),
            ("sys/devices/system/cpu/smt/active", b"1\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", b"[always] madvise never\n"),
            ("proc/swaps", b"Filename Type Size Used Priority\n/dev/sda2 partition 9 4 -2\n"),
            ("proc/sys/kernel/randomize_va_space", b"2\n"),
            ("proc/sys/kernel/core_pattern", b"|/usr/lib/handler %p\n"),
            ("proc/loadavg", b"3.25 1 1 1/1 1\n"),
        ],
    );
    let noise = Noise::below(&machine.0);
    assert_eq!(noise.governors, ["performance", "powersave"]);
    assert_eq!((noise.turbo, noise.smt), (Some(true), Some(true)));
    let names: Vec<_> = noise.disturbances().iter().map(|one| one.name).collect();
    let all = ["governor", "turbo", "smt", "transparent_huge_pages", "swap", "aslr", "core_pattern", "load"];
    assert_eq!(names, all);
    assert!(noise.disturbances().iter().all(|one| !one.meaning.is_empty() && !one.remedy.is_empty()));
    let report = noise.to_string();
    assert!(report.contains("swap                    noisy    4 KiB in use: "), "{report}");
    assert!(report.contains("load                    noisy    3.25: "), "{report}");
}

#[test]
fn a_quiet_machine_is_quiet() {
    let machine = Machine::new(
        "quiet",
        &[
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", b"performance"),
            ("sys/devices/system/cpu/cpufreq/boost", b"0"),
            ("sys/devices/system/cpu/smt/active", b"0"),
            ("sys/kernel/mm/transparent_hugepage/enabled", b"always madvise [never]"),
            ("proc/swaps", b"Filename Type Size Used Priority\n"),
            ("proc/sys/kernel/randomize_va_space", b"0"),
            ("proc/sys/kernel/core_pattern", b"core"),
            ("proc/loadavg", b"0.00 0.00 0.00 1/1 1"),
        ],
    );
    let noise = Noise::below(&machine.0);
    assert_eq!(noise.disturbances(), [], "{noise}");
    assert!(!noise.to_string().contains("unknown"), "{noise}");
}

#[test]
fn a_machine_that_shows_nothing_or_nonsense_is_unknown() {
    let nothing = Noise::below(Path::new("/no/such/machine"));
    assert_eq!(nothing, Noise::default());
    assert_eq!(nothing.to_string().matches("this machine does not show it").count(), 8);
    let machine = Machine::new(
        "odd",
        &[
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", b"\n"),
            ("sys/devices/system/cpu/intel_pstate/no_turbo", b"maybe"),
            ("sys/devices/system/cpu/smt/active", b"\xff\xfe"),
            ("sys/kernel/mm/transparent_hugepage/enabled", b"always"),
            ("proc/swaps", b"\xff"),
            ("proc/sys/kernel/randomize_va_space", b"99999999999999999999"),
            ("proc/sys/kernel/core_pattern", b"   "),
            ("proc/loadavg", b"NaN"),
        ],
    );
    assert_eq!(Noise::below(&machine.0), Noise::default());
}
