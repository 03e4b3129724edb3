//! Policies as data, from the public interface: every key in both formats, what is refused and how, and sandboxes that
//! are what their document says.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

#[path = "policy/documents.rs"]
mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{ErrorKind, Mount, Needs, Sandbox, Verdict};
use support::{Case, Result, Scratch, fail, sh, slack, timed};

fn main() -> ExitCode {
    let cases: &[Case] = cases![
        every_key_is_read_and_written: ["bare"],
        every_setter_has_a_key: ["bare"],
        what_is_wrong_is_named: ["bare"],
        what_no_format_can_hold_is_refused: ["bare"],
        what_has_no_meaning_is_refused_by_the_plan: ["bare"],
        damaged_documents_do_no_harm: ["bare"],
        a_configuration_holds_a_policy: ["bare"],
        the_examples_plan: ["userns"],
        a_document_is_enforced: ["userns", "sh"],
        rules_and_words_of_a_document_are_enforced: ["landlock-2", "sh"],
        limits_of_a_document_are_enforced: ["userns", "cgroup-memory", "sh"],
    ];
    support::main(cases, &[])
}

const DOCUMENT: &str = include_str!("../docs/policy.md");

/// The first cell of each row, and the last.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        Some((cells.next()?.trim_matches('`'), cells.next_back()?))
    })
}

/// The paths of all keys of a document, without the numbers of items and with the names of rlimits as the table of keys
/// has them.
fn keys(value: &toml::Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::Array(items) => items.iter().for_each(|item| keys(item, path, found)),
        toml::Value::Table(table) => {
            for (key, value) in table {
                let below = match path {
                    "" => key.clone(),
                    "rlimit" => "rlimit.NAME".to_owned(),
                    // What is below is not ours.
                    "env" | "seccomp.from_json" => continue,
                    // These are written as `ids` and `cpu_max` are.
                    "user_map.uids" | "user_map.gids" => format!("user_map.ids.{key}"),
                    "limits.cpu_rt" => format!("limits.cpu_max.{key}"),
                    // The same as above it.
                    "seccomp.within" => continue,
                    "seccomp.otherwise" => format!("seccomp.on.action.{key}"),
                    path => format!("{path}.{key}"),
                };
                found.insert(below.clone());
                keys(value, &below, found);
            }
        }
        _ => {}
    }
}

fn every_key_is_read_and_written() -> Result {
    let mut found = BTreeSet::new();
    for (text, sandbox) in documents::all() {
        keys(&toml::from_str(text)?, "", &mut found);
        let expected = format!("{sandbox:?}");
        let same = |read: belljar::Result<Sandbox>, how: &str| match read {
            Ok(read) if format!("{read:?}") == expected => Ok(()),
            Ok(read) => fail(format!("{how} {text}\n{read:?}\nis not\n{sandbox:?}")),
            Err(error) => fail(format!("{how} {text}\n{error}")),
        };
        same(Sandbox::from_toml(text), "the document")?;
        let (toml, json) = (sandbox.to_toml()?, sandbox.to_json()?);
        same(Sandbox::from_toml(&toml), "what was written of")?;
        same(Sandbox::from_json(&json), "the JSON of")?;
        // What was written is the same document in both formats, and is written again as it is.
        let of_json: serde_json::Value = serde_json::from_str(&json)?;
        assert_eq!(serde_json::to_value(toml::from_str::<toml::Value>(&toml)?)?, of_json, "{toml}");
        assert_eq!(Sandbox::from_toml(&toml)?.to_toml()?, toml);
        // And the plan is the same, where this host has one. A deterministic one takes the next processor each time.
        if text.contains("deterministic") {
            continue;
        }
        if let (Ok(plan), Ok(again)) = (sandbox.plan(), Sandbox::from_toml(&toml)?.plan()) {
            assert_eq!((plan.to_string(), plan.enforced()), (again.to_string(), again.enforced()), "{toml}");
        }
    }
    let documented: BTreeSet<String> = rows().map(|(key, _)| key.to_owned()).collect();
    let missing: Vec<_> = documented
        .iter()
        .filter(|key| key.as_str() != "rlimit.NAME")
        .filter(|key| !found.contains(*key))
        .collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => fail(format!("no document of this test has {missing:?}")),
    }
}

/// Methods that no policy needs a key for: they make no setting, or they are short for one that has a key.
const WITHOUT_KEY: [&str; 29] = [
    "CpuMax::quota_us",
    "CpuMax::period_us",
    "CpuSet::is_empty",
    "CpuSet::contains",
    "CpuSet::iter",
    // Seccomp: short for `on` and `on_if`.
    "Seccomp::allow",
    "Seccomp::allow_if",
    "Seccomp::deny",
    "Seccomp::deny_if",
    "Seccomp::deny_with",
    "Seccomp::kill",
    "Seccomp::log",
    "Seccomp::notify",
    "Seccomp::trap",
    "Seccomp::to_bpf",
    "Seccomp::to_json",
    // Limits that start from nothing.
    "Limits::new",
    "IoMax::new",
    // Values, not settings.
    "Bytes::new",
    "Bytes::kib",
    "Bytes::mib",
    "Bytes::gib",
    "Bytes::get",
    "Resource::name",
    "Resource::from_name",
    "Sandbox::from_json",
    "Sandbox::from_toml",
    "Sandbox::to_json",
    "Sandbox::to_toml",
];

/// Whoever adds a setter adds its key, or says here why it has none.
fn every_setter_has_a_key() -> Result {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = [
        "sandbox/mod.rs",
        "sandbox/resources.rs",
        "sandbox/scheduling.rs",
        "deterministic.rs",
        "policy/mod.rs",
        "limits.rs",
        "cgroup/limits.rs",
        "cgroup/cpuset.rs",
        "cgroup/io.rs",
        "cgroup/device.rs",
        "idmap/mod.rs",
        "rootfs.rs",
        "upper.rs",
        "mount.rs",
        "landlock/mod.rs",
        "seccomp/mod.rs",
        "seccomp/builder.rs",
        "seccomp/condition.rs",
        "seccomp/oci/mod.rs",
    ];
    let words: BTreeSet<&str> = rows().flat_map(|(_, calls)| calls.split('`')).collect();
    let mut setters = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(source.join(file))?;
        let mut of = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("impl ") {
                of = name.split([' ', '{']).next().unwrap_or_default();
            }
            let function = line.strip_prefix("    pub fn ").or(line.strip_prefix("    pub const fn "));
            if let Some(name) = function.and_then(|rest| rest.split(['(', '<']).next()) {
                setters.insert(format!("{of}::{name}"));
            }
        }
    }
    if setters.len() < 150 {
        return fail(format!("only {} setters were found: {setters:?}", setters.len()));
    }
    let lacking: Vec<_> = setters
        .iter()
        .filter(|name| !words.contains(name.as_str()) && !WITHOUT_KEY.contains(&name.as_str()))
        .collect();
    let gone: Vec<_> = WITHOUT_KEY.iter().filter(|name| !setters.contains(**name)).collect();
    if !lacking.is_empty() || !gone.is_empty() {
        return fail(format!(
            "docs/policy.md has no key for {lacking:?}; this list has {gone:?}, which are no setters"
        ));
    }
    Ok(())
}

fn what_is_wrong_is_named() -> Result {
    for (text, named) in documents::WRONG {
        let error = match Sandbox::from_toml(text) {
            Err(error) => error,
            Ok(_) => return fail(format!("was read: {text}")),
        };
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}: {error}");
        assert!(error.to_string().contains(named), "{text}: {error} does not name {named}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{text}: {error}");
        // In JSON the path is the same; a key that is there twice cannot be told by way of another format.
        if let Ok(value) = toml::from_str::<toml::Table>(text) {
            if let Ok(json) = serde_json::to_string(&value) {
                let Err(error) = Sandbox::from_json(&json) else { return fail(format!("was read: {json}")) };
                let path = named.split(" (line").next().unwrap_or(named);
                assert!(error.to_string().contains(path), "{json}: {error} does not name {path}");
            }
        }
    }
    for (json, said) in [
        ("", "is no JSON"),
        ("{", "line 1"),
        ("[]", "is a list, not a table"),
        ("null", "is null"),
        ("{} {}", "trailing"),
        (r#"{"nice": 1, "nice": 2}"#, "\"nice\" is there twice"),
        (r#"{"env": {"A": "", "A": ""}}"#, "\"A\" is there twice"),
        (r#"{"hostname": null}"#, "hostname is null"),
        (r#"{"nice": 1e999}"#, "is no JSON"),
        (r#"{"limits": {"cpu_max": 1e300}}"#, "limits.cpu_max is no number of processors"),
        (r#"{"limits": {"memory_max": 18446744073709551616}}"#, "limits.memory_max"),
        (r#"{"limits": {"memory_max": 1e3}}"#, "limits.memory_max"),
        ("\u{feff}{}", "is no JSON"),
        (
            &format!(r#"{{"seccomp": {}{{}}{}"#, "{\"within\":".repeat(17), "}".repeat(18)),
            "is within too many others",
        ),
        (r#"{"a\nb\u001b[2J": 1}"#, "is no key"),
    ] {
        let Err(error) = Sandbox::from_json(json) else { return fail(format!("was read: {json}")) };
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{json}: {error}");
        assert!(error.to_string().contains(said), "{json}: {error} does not say {said}");
        assert!(!error.to_string().contains(char::is_control) && error.hint().is_some(), "{json}: {error:?}");
    }
    Ok(())
}

type Read = fn(&str) -> belljar::Result<Sandbox>;

/// Documents that are made to cost much: each ends soon, with an error or a sandbox.
fn what_no_format_can_hold_is_refused() -> Result {
    let many = |count: usize, line: fn(usize) -> String| (0..count).map(line).collect::<String>();
    let dotted = vec!["a"; 500_000].join(".");
    let toml = [
        ("x".repeat(10 << 20), "10485760 bytes"),
        (format!("{dotted} = 1"), "recursion"),
        (format!("[{dotted}]"), "recursion"),
        (format!("limits.{dotted} = 1"), "recursion"),
        (format!("a = {}", "[".repeat(500_000)), "recurs"),
        (format!("a = {}", "{a=".repeat(300_000)), "recurs"),
        (many(90_000, |n| format!("k{n}=1\n")), "k0 (line 1) is no key"),
        (many(90_000, |n| format!("[k{n}]\n")), "k0 (line 1) is no key"),
        ("=\n".repeat(500_000), "line 1"),
        (format!("nice = {}", "9".repeat(900_000)), "nice (line 1) is a number of more than 128 bits"),
        (format!("{} = 1", "k".repeat(1_000_000)), "is no key"),
        (format!("\u{0}{}", "a".repeat(1000)), "line 1"),
    ];
    let json = [
        ("x".repeat(10 << 20), "10485760 bytes"),
        ("[".repeat(1_000_000), "recursion limit"),
        ("{\"a\":".repeat(200_000), "recursion limit"),
        (format!("{{\"nice\": {}}}", "9".repeat(900_000)), "out of range"),
    ];
    let toml = toml.iter().map(|(text, said)| (Sandbox::from_toml as Read, text, said));
    let json = json.iter().map(|(text, said)| (Sandbox::from_json as Read, text, said));
    for (read, text, said) in toml.chain(json) {
        let (result, time) = timed(|| read(text));
        let shown: String = text.chars().take(40).collect();
        let Err(error) = result else { return fail(format!("was read: {shown}")) };
        assert!(error.to_string().contains(said), "{shown}: {error} does not say {said}");
        assert!(error.to_string().len() < 300, "{} bytes of an error", error.to_string().len());
        let kind = if text.len() > 1 << 20 { ErrorKind::LimitExceeded } else { ErrorKind::InvalidConfig };
        assert_eq!(error.kind(), kind, "{error}");
        assert!(time < Duration::from_secs(10) * slack(), "{shown}: {time:?}");
    }
    // What is long and right is read.
    let long = [
        format!("[env]\n{}", many(60_000, |n| format!("k{n} = ''\n"))),
        "[[mount]]\nproc='/p'\n".repeat(40_000),
        format!("[[mount]]\nfile = '/a'\ncontent = '{}'", "x".repeat(1_000_000)),
    ];
    for text in &long {
        let (written, time) =
            timed(|| Sandbox::from_toml(text).and_then(|sandbox| sandbox.to_json().map(drop)));
        let too_long = written.is_err_and(|error| error.kind() != ErrorKind::LimitExceeded);
        assert!(!too_long && time < Duration::from_secs(20) * slack(), "{time:?}");
    }
    Ok(())
}

/// Text that is a policy, and no sandbox.
fn what_has_no_meaning_is_refused_by_the_plan() -> Result {
    for text in [
        "hostname = \"a\\u0000b\"",
        "hostname = \"\"",
        "[[mount]]\ntmpfs = \"/a\\u0000b\"",
        "[[mount]]\ntmpfs = \"relative\"",
        "[[mount]]\nbind = \"/usr\"\ntarget = \"usr\"",
        "[[mount]]\nsymlink = \"a\\u0000\"\ntarget = \"/a\"",
        "[[mount]]\ntmpfs = \"/a\"\nsize = 0",
        "[env]\n\"A=B\" = \"\"",
        "[env]\n\"A\\u0000\" = \"\"",
        "[rootfs]\noverlay = []",
        "[limits]\nmemory_max = 0",
        "[limits]\ncpu_weight = 0",
        "[limits]\ncpu_max = { quota = \"0s\", period = \"100ms\" }",
        "wall_time = \"0s\"",
        "nice = 20",
        "scheduler = { fifo = 100 }",
        "cpu_affinity = \"\"",
        "keep_capability = [\"FLY\"]",
        "[seccomp]\nallow_only = []",
        "[seccomp]\nallow_only = [\"no_such_call\"]",
        "[[seccomp.on]]\ncalls = [\"read\"]\naction = { errno = 0 }",
        "[[seccomp.on]]\ncalls = [\"read\"]\naction = \"allow\"\nconditions = []",
        "[[seccomp.on]]\ncalls = [\"read\"]\naction = \"allow\"\nconditions = [{ arg = 6, eq = 1 }]",
        "[landlock]\nabi = 0",
        "[landlock]\nread = [\"relative\"]",
        "apparmor = \"unconfined\"",
        "user = { uid = 4294967295, gid = 0 }",
        "user_map = { ids = [] }",
        "cross_tenant = true\nshare = [\"net\"]",
        "[rlimit]\nnofile = { soft = 9, hard = 8 }",
    ] {
        let Err(error) = Sandbox::from_toml(text)?.plan() else { return fail(format!("has a plan: {text}")) };
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}: {error}");
    }
    Ok(())
}

/// Whatever becomes of a document, it is read or refused, and what was read can be written.
fn damaged_documents_do_no_harm() -> Result {
    let mut state = 0x600d_f00d_u64;
    let mut next = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
    };
    let (mut read, mut refused) = (0, 0);
    let documents: Vec<&str> = documents::all().into_iter().map(|(text, _)| text).collect();
    for round in 0..4_000 {
        let mut bytes = documents[round % documents.len()].as_bytes().to_vec();
        for _ in 0..=next(2) {
            let at = next(bytes.len());
            match next(5) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + 9).min(bytes.len()))),
                2 if at < bytes.len() => bytes[at] = b"[]{}=.,\"'#0-\n \\"[next(15)],
                3 => bytes.splice(at..at, *b"true").for_each(drop),
                _ if at < bytes.len() => bytes[at] = b'a' + u8::try_from(next(26)).unwrap_or(0),
                _ => {}
            }
        }
        match Sandbox::from_toml(&String::from_utf8_lossy(&bytes)) {
            Ok(sandbox) => {
                let again = Sandbox::from_toml(&sandbox.to_toml()?)?;
                assert_eq!(again.to_json()?, sandbox.to_json()?);
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 100 && refused > 1000, "{read} and {refused}");
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Plugin {
    path: String,
    needs: Needs,
    sandbox: Sandbox,
}

fn a_configuration_holds_a_policy() -> Result {
    let text =
        "path = \"/usr/bin/true\"\nneeds = [\"syscall read\"]\n[sandbox]\npreset = \"plugin\"\nnice = 3\n";
    let plugin: Plugin = toml::from_str(text)?;
    assert_eq!(format!("{:?}", plugin.sandbox), format!("{:?}", Sandbox::plugin().nice(3)));
    assert_eq!(plugin.needs.to_string(), "syscall read\n");
    let json = serde_json::to_string(&plugin)?;
    let again: Plugin = serde_json::from_str(&json)?;
    assert_eq!(again.sandbox.to_toml()?, "preset = \"plugin\"\nnice = 3\n");
    assert_eq!((again.path, again.needs), (plugin.path, plugin.needs));
    for (text, said) in [
        (
            r#"{ "path": "", "needs": [], "sandbox": { "limits": { "pids_mx": 1 } } }"#,
            "limits.pids_mx is no key of a policy; did you mean pids_max",
        ),
        (r#"{ "path": "", "needs": [], "sandbox": 7 }"#, "the policy is an integer, not a table"),
        (r#"{ "path": "", "needs": ["fly /"], "sandbox": {} }"#, "there is no need of this kind"),
        (r#"{ "path": "", "needs": "syscall read", "sandbox": {} }"#, "expected a sequence"),
    ] {
        let Err(error) = serde_json::from_str::<Plugin>(text) else {
            return fail(format!("was read: {text}"));
        };
        assert!(error.to_string().contains(said), "{error}");
    }
    Ok(())
}

/// The policies that come with the crate are policies, and this host can do them or says what it lacks.
fn the_examples_plan() -> Result {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policies");
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let sandbox = Sandbox::from_toml(&fs::read_to_string(&path)?)?;
        let again = Sandbox::from_json(&sandbox.to_json()?)?;
        assert_eq!(format!("{again:?}"), format!("{sandbox:?}"), "{}", path.display());
        if let Err(error) = sandbox.plan() {
            let lacks = matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied);
            assert!(lacks && error.hint().is_some(), "{}: {error}", path.display());
        }
        count += 1;
    }
    if count < 5 { fail(format!("only {count} examples")) } else { Ok(()) }
}

fn a_document_is_enforced() -> Result {
    let sandbox = Sandbox::from_toml(
        "hostname = 'of-toml'\nuser = { uid = 7, gid = 8 }\nboottime_offset = 1000000000\n\
         [[mount]]\nfile = '/etc/motd'\ncontent = 'hello'\nmode = '0644'\n\
         [[mount]]\nfile = '/etc/raw'\ncontent_hex = '00ff'\n\
         [rlimit]\nnofile = 33\n[env]\nGREETING = 'a b'\n",
    )?;
    let script = "uname -n; id -u; id -g; cat /etc/motd; echo; stat -c %a /etc/motd; stat -c %s /etc/raw; \
                  ulimit -n; echo \"$GREETING\"; cut -d. -f1 /proc/uptime | cut -c1 ; wc -l < /proc/net/dev";
    let inside = |sandbox: &Sandbox| -> Result<String> {
        let output = sandbox.clone().mount(Mount::proc("/proc").full()).output(sh(script))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let text = inside(&sandbox)?;
    // Two lines of titles and the loopback.
    assert_eq!(text, "of-toml\n7\n8\nhello\n644\n2\n33\na b\n1\n3\n");
    // The control: without the document it is otherwise, and by the setters it is the same.
    let by_setters = Sandbox::new()
        .hostname("of-toml")
        .user(7, 8)
        .boottime_offset(1_000_000_000)
        .mount(Mount::file("/etc/motd", "hello").mode(0o644))
        .mount(Mount::file("/etc/raw", [0, 0xff]))
        .rlimit(belljar::Resource::Nofile, 33, 33)
        .env("GREETING", "a b");
    assert_eq!(inside(&by_setters)?, text);
    assert!(inside(&Sandbox::new())?.starts_with("belljar\n1000\n1000\n"));
    Ok(())
}

fn rules_and_words_of_a_document_are_enforced() -> Result {
    let scratch = Scratch::new();
    let (secret, made) = (scratch.file("secret", "secret\n"), scratch.join("made"));
    let run = |text: &str| -> Result<(String, Verdict)> {
        let script = format!("cat {}; exec mkdir {}", secret.display(), made.display());
        let sandbox = Sandbox::from_toml(&format!("preset = 'bare'\n{text}"))?;
        let output = sandbox.output(sh(&script))?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.outcome.verdict))
    };
    // The control: the open sandbox reads the file and makes the directory.
    assert_eq!(run("")?, ("secret\n".to_owned(), Verdict::Exited(0)));
    fs::remove_dir(&made)?;
    let rules = "[landlock]\nabi = 2\nsystem = true\n";
    assert_eq!(run(rules)?, (String::new(), Verdict::Exited(1)));
    let dir = scratch.path().display();
    let more = format!("{rules}read = ['{dir}']\n[[landlock.rule]]\npath = '{dir}'\naccess = ['make_dir']\n");
    assert_eq!(run(&more)?, ("secret\n".to_owned(), Verdict::Exited(0)));
    fs::remove_dir(&made)?;
    let filter = "[[seccomp.on]]\ncalls = ['mkdir', 'mkdirat']\naction = 'kill'\n";
    let (text, verdict) = run(filter)?;
    assert!(text == "secret\n" && matches!(verdict, Verdict::SyscallDenied { .. }), "{text} {verdict:?}");
    assert!(!made.exists());
    Ok(())
}

fn limits_of_a_document_are_enforced() -> Result {
    let fill = sh("exec head -c 100000000 /dev/zero > /tmp/fill");
    let limited = Sandbox::from_toml("[limits]\nmemory_max = '32MiB'\n")?;
    assert_eq!(limited.status(&fill)?.verdict, Verdict::MemoryExceeded);
    let enough = Sandbox::from_toml("[limits]\nmemory_max = '256MiB'\n")?;
    assert_eq!(enough.status(&fill)?.verdict, Verdict::Exited(0));
    let late = Sandbox::from_toml("wall_time = '200ms'\n")?;
    assert_eq!(late.status(sh("exec sleep 20"))?.verdict, Verdict::WallTimeExceeded);
    Ok(())
}
