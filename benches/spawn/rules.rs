//! What rules of landlock cost a spawn: the same sandboxes with and without, in turn.

use std::time::Instant;

use belljar::{Landlock, Plan, Sandbox};

use super::statistics::median;
use super::{closed, quiet, run, tiny};

const ROUNDS: usize = 1000;

/// Ten rules of paths, and two of ports, beside the denial of everything else.
fn rules(program: &std::path::Path) -> Landlock {
    let dirs = ["/usr", "/usr/bin", "/usr/lib", "/usr/share", "/proc", "/dev", "/tmp", "/etc"];
    let rules = dirs.into_iter().fold(Landlock::new(), Landlock::read);
    rules.write("/tmp").execute(program).connect_tcp(80).connect_tcp(443)
}

pub(crate) fn measure() {
    let host = tiny::File::new();
    let inside = std::path::Path::new("/true");
    let bare = |rules: Option<Landlock>| with(Sandbox::bare(), rules);
    let files_alone = |rules: Landlock| rules.share_tcp();
    for (name, program, plans) in [
        (
            "bare",
            host.path(),
            [
                bare(None),
                bare(Some(files_alone(rules(host.path().as_ref())))),
                bare(Some(rules(host.path().as_ref()))),
            ],
        ),
        (
            "closed, with limits",
            "/true",
            [
                with(closed(), None),
                with(closed(), Some(files_alone(rules(inside)))),
                with(closed(), Some(rules(inside))),
            ],
        ),
    ] {
        let command = quiet(program);
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (plan, times) in plans.iter().zip(&mut times) {
                let start = Instant::now();
                run(plan, &command);
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        let [none, files, all] = times.map(|mut times| median(&mut times));
        println!("{name}: {none:.0} µs without rules");
        println!("  {files:7.0} µs  rules of files and scopes, {:.3} times that", files / none);
        println!("  {all:7.0} µs  and of ports, with their filter, {:.3} times that", all / none);
    }
}

fn with(sandbox: Sandbox, rules: Option<Landlock>) -> Plan {
    let sandbox = match rules {
        Some(rules) => sandbox.landlock(rules),
        None => sandbox,
    };
    sandbox.plan().expect("a valid policy, on a kernel with landlock")
}
