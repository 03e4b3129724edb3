//! `--policy` and `--print-policy`.

use super::*;

/// With the feature `serde`, which the example must have as well.
#[cfg(feature = "serde")]
pub(super) const CASES: &[Case] = cases![
    a_policy_of_a_file: ["userns", "sh"],
    a_policy_is_printed: ["bare"],
    a_policy_that_is_none_is_refused: ["bare"],
    output_of_a_policy_is_limited: ["userns", "sh"],
];
#[cfg(not(feature = "serde"))]
pub(super) const CASES: &[Case] = cases![a_policy_takes_a_feature: ["bare"]];

#[cfg(feature = "serde")]
fn a_policy_of_a_file() -> Result {
    let scratch = Scratch::new();
    let policy = "hostname = 'of-file'\n[env]\nA = '1'\nB = '2'\n";
    let json = r#"{ "hostname": "of-file", "env": { "A": "1", "B": "2" } }"#;
    let script = "uname -n; echo $A $B; id -u";
    let files = [("a.toml", policy), ("a.json", json), ("toml", policy), ("json", json)];
    for (name, text) in files {
        let file = scratch.file(name, text);
        let option = format!("--policy={}", file.display());
        assert_eq!(out(&[&option], script)?, "of-file\n1 2\n1000\n", "{name}");
        // Options change what it says, wherever they stand.
        let changed = out(&["--env", "B=3", "--hostname", "mine", &option, "--root"], script)?;
        assert_eq!(changed, "mine\n1 3\n0\n", "{name}");
    }
    // The control.
    assert_eq!(out(&[], script)?, "belljar\n\n1000\n");
    let bare = scratch.file("bare.toml", "preset = 'bare'\n");
    let host = out(&["--bare"], "uname -n")?;
    assert_eq!(out(&[&format!("--policy={}", bare.display())], "uname -n")?, host);
    Ok(())
}

/// What is printed is what a file may have, and says the same.
#[cfg(feature = "serde")]
fn a_policy_is_printed() -> Result {
    let options = [
        "--share=net",
        "--memory=256M",
        "--cap=CHOWN",
        "--tmpfs=/t:1M",
        "--rlimit=nofile=64",
        "--print-policy",
    ];
    let printed = run(&options)?;
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert_eq!(
        printed.text(),
        "preset = \"new\"\nshare = [\"net\"]\nkeep_capability = [\"CHOWN\"]\n\n[[mount]]\ntmpfs = \"/t\"\n\
         size = \"1MiB\"\n\n[limits]\nmemory_max = \"256MiB\"\n\n[rlimit]\nnofile = 64\n"
    );
    let scratch = Scratch::new();
    let file = scratch.file("printed.toml", printed.text());
    let again = run(&["--policy", &file.display().to_string(), "--print-policy"])?;
    assert_eq!(again.text(), printed.text());
    // With a program nothing is run.
    let marker = scratch.join("marker");
    let script = format!("touch {}", marker.display());
    let ended = run(&["--bare", "--print-policy", "--", "/bin/sh", "-c", &script])?;
    assert_eq!((ended.code, ended.text().as_str()), (0, "preset = \"bare\"\n"));
    assert!(!marker.exists());
    // A path that no document can hold.
    let mut command = jail(&["--print-policy", "--hostname"]);
    command.arg(OsString::from_vec(b"a\xff".to_vec()));
    refused(&ended_of(command)?, &["hostname of the policy is not UTF-8"]);
    Ok(())
}

#[cfg(feature = "serde")]
fn ended_of(mut command: Command) -> Result<Ended> {
    super::ended(command.output()?)
}

#[cfg(feature = "serde")]
fn a_policy_that_is_none_is_refused() -> Result {
    let scratch = Scratch::new();
    let refused_with = |name: &str, text: &[u8], says: &[&str]| -> Result {
        let file = scratch.file(name, text).display().to_string();
        refused(&run(&["--policy", &file, "--", "/bin/true"])?, says);
        Ok(())
    };
    refused_with(
        "a.toml",
        b"[limits]\nmemory_mx = 1\n",
        &["limits.memory_mx (line 2)", "did you mean memory_m"],
    )?;
    refused_with("b.toml", b"{}", &["is no TOML"])?;
    refused_with("b.json", b"nice = 1", &["is no JSON"])?;
    refused_with("c", b"\n {\"nice\": 1", &["is no JSON"])?;
    refused_with("d", b"\xff", &["cannot be read", "UTF-8"])?;
    refused_with("e", &vec![b'#'; 3 << 20], &["1048576 are the most"])?;
    refused_with("f", b"nice = 20", &["20 is no nice value"])?;
    let none = scratch.join("none").display().to_string();
    refused(&run(&["--policy", &none, "--", "/bin/true"])?, &["cannot be read", "No such file"]);
    refused(&run(&["--policy", "/", "--", "/bin/true"])?, &["cannot be read"]);
    let (zeros, time) = timed(|| run(&["--policy", "/dev/zero", "--", "/bin/true"]));
    refused(&zeros?, &["1048576 are the most"]);
    assert!(time < Duration::from_secs(10) * slack(), "{time:?}");
    let good = scratch.file("good", "").display().to_string();
    refused(&run(&["--bare", "--policy", &good, "--", "/bin/true"])?, &["--bare contradicts --policy"]);
    refused(&run(&["--policy", &good, "--uid", "3", "--", "/bin/true"])?, &["--uid and --gid go together"]);
    refused(&run(&["--policy"])?, &["--policy needs a value"]);
    Ok(())
}

/// The limit of the file holds for what jail passes on, and that of the option before it.
#[cfg(feature = "serde")]
fn output_of_a_policy_is_limited() -> Result {
    let scratch = Scratch::new();
    let file = |text: &str| scratch.file("policy.toml", text).display().to_string();
    for (text, bytes) in [("output_max = 1000", 1000), ("output_max = '2KiB'", 2048)] {
        let ended = run_sh(&["--policy", &file(text)], "head -c 100000 /dev/zero")?;
        assert_eq!((ended.code, ended.stdout.len()), (124, bytes), "{text}: {}", ended.stderr);
    }
    for (text, option) in
        [("output_max = 'max'", "--nice=19"), ("output_max = 10", "--output=1M"), ("", "--nice=19")]
    {
        let ended = run_sh(&["--policy", &file(text), option], "head -c 100000 /dev/zero")?;
        assert_eq!((ended.code, ended.stdout.len()), (0, 100_000), "{text}: {}", ended.stderr);
    }
    Ok(())
}

#[cfg(not(feature = "serde"))]
fn a_policy_takes_a_feature() -> Result {
    for options in [&["--policy", "/dev/null", "--", "/bin/true"][..], &["--print-policy"]] {
        refused(&run(options)?, &["is not in this jail", "--features serde"]);
    }
    Ok(())
}
