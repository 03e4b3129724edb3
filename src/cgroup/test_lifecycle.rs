//! Making, killing, removing and sweeping boxes on the real kernel.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use super::layout::{Controller, Layout, Version};
use super::name::{BoxName, Owner};
use super::parent::Parent;
use super::sweep::sweep_parent;
use super::testing::{
    Scratch, cgroup, only_path, placement, processes, refused, run_in, settle, spawn_in, until, wait,
};
use super::{Cgroup, CgroupParent, Limits, Placement, RunPlacement, make_groups};
use crate::error::{ErrorKind, Step};
use crate::limits::CpuMax;

fn pids(max: u64) -> Limits {
    Limits { pids_max: Some(max), ..Limits::default() }
}

/// A shell with twenty children, once all of them run.
fn tree_in(cgroup: &Cgroup) -> std::process::Child {
    let child = spawn_in(cgroup, "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done; wait");
    let dir = cgroup.paths().last().expect("the box has a directory");
    until("the whole tree runs", || processes(&dir).len() >= 21);
    child
}

fn is_gone(pid: &str) -> bool {
    // A zombie that init has not reaped yet has nothing left but its entry.
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn kill_reaches_the_whole_tree_and_removal_leaves_nothing() {
    let Some(mut cgroup) = cgroup(&Limits { memory_max: Some(256 << 20), ..pids(50) }) else { return };
    let mut child = tree_in(&cgroup);
    let paths: Vec<_> = cgroup.paths().collect();
    let members = processes(&paths[0]);
    cgroup.kill().expect("they are ours");
    assert!(!wait(&mut child).success());
    until("all of them are gone", || members.iter().all(|pid| is_gone(pid)));
    cgroup.remove().expect("it is empty");
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
    cgroup.remove().expect("a second time does no harm");
    cgroup.kill().expect("nor does this");
}

#[test]
fn removal_kills_what_is_inside() {
    let Some(mut cgroup) = cgroup(&pids(50)) else { return };
    let mut child = tree_in(&cgroup);
    let path = only_path(&cgroup);
    cgroup.remove().expect("it kills and waits");
    assert!(!path.exists());
    assert!(!wait(&mut child).success());
}

#[test]
fn drop_kills_what_is_inside() {
    let Some(cgroup) = cgroup(&pids(50)) else { return };
    let mut child = tree_in(&cgroup);
    let path = only_path(&cgroup);
    drop(cgroup);
    assert!(!path.exists());
    assert!(!wait(&mut child).success());
}

/// The groups of programs in a box, of whoever made them, end with it: a host that was killed had no time for that.
#[test]
fn removal_reaches_groups_within() {
    let limits = Limits { memory_max: Some(256 << 20), ..pids(50) };
    let Some(placement) = placement(&limits) else { return };
    let mut cgroup = Cgroup::create(&placement, &limits).expect("it was placed");
    cgroup.make_room().expect("a fresh box has room");
    let own = RunPlacement::resolve(&pids(20), &placement).expect("the box has them all");
    let run = Cgroup::create_run(Some(&mut cgroup), &own, 7).expect("there is room");
    let mut child = spawn_in(&run, "sleep 1000 & sleep 1000 & wait");
    let inner: Vec<_> = run.paths().collect();
    assert!(inner.iter().all(|path| path.ends_with("7")), "{inner:?}");
    until("the whole tree runs", || processes(&inner[0]).len() >= 3);
    let boxes: Vec<_> = cgroup.paths().collect();
    cgroup.remove().expect("it kills and waits");
    assert!(!wait(&mut child).success());
    assert!(boxes.iter().chain(&inner).all(|path| !path.exists()), "{boxes:?} {inner:?}");
    drop(run);
}

#[test]
fn a_program_has_a_group_wherever_something_of_it_is_counted() {
    let limits = Limits { memory_max: Some(256 << 20), ..pids(50) };
    let Some(placement) = placement(&limits) else { return };
    let mut cgroup = Cgroup::create(&placement, &limits).expect("it was placed");
    cgroup.make_room().expect("a fresh box has room");
    let own = RunPlacement::resolve(&Limits::default(), &placement).expect("the box has them all");
    let mut one = Cgroup::create_run(Some(&mut cgroup), &own, 1).expect("there is room");
    let mut two = Cgroup::create_run(Some(&mut cgroup), &own, 2).expect("and for one more");
    assert_eq!(one.joins().len(), cgroup.joins().len());
    assert!(run_in(&one, "dd if=/dev/zero of=/dev/null bs=20M count=1; true").success());
    let peak = |cgroup: &Cgroup| cgroup.counters().expect("they are readable").peak_memory;
    assert!(peak(&one).is_none_or(|peak| peak > 20 << 20), "{:?}", peak(&one));
    assert!(peak(&two).is_none_or(|peak| peak < 1 << 20), "{:?}", peak(&two));
    for run in [&mut one, &mut two] {
        run.finish().expect("nothing is in it");
        run.remove().expect("nothing is in it");
    }
    cgroup.remove().expect("nothing is in it");
}

#[test]
fn what_somebody_else_removed_is_removed() {
    let Some(mut cgroup) = cgroup(&pids(50)) else { return };
    fs::remove_dir(only_path(&cgroup)).expect("it is empty");
    cgroup.kill().expect("nothing is in it");
    cgroup.remove().expect("it is gone");
}

#[test]
fn a_forked_copy_of_the_host_leaves_the_box_alone() {
    let Some(mut cgroup) = cgroup(&pids(50)) else { return };
    let path = only_path(&cgroup);
    cgroup.host += 1;
    drop(cgroup);
    assert!(path.exists());
    fs::remove_dir(path).expect("it is empty");
}

#[test]
fn failure_on_the_way_removes_what_was_made() {
    let harmless = Limits { cpu_weight: Some(100), ..Limits::default() };
    let Some(scratch) = Scratch::new("undo-limits", &harmless) else { return };
    scratch.parent.ready().expect("it is empty");
    // More than the directory above may have is refused by version 1. In version 2 the box gets no such file if somebody
    // stops what we have begun to pass on.
    let spoil = match scratch.parent.version {
        Version::V1 => ("cpu.cfs_quota_us", "5000"),
        Version::V2 => ("cgroup.subtree_control", "-cpu"),
    };
    fs::write(scratch.dir.join(spoil.0), spoil.1).expect("it is ours");
    let limits = Limits::new().cpu_max(CpuMax::cpus(0.5));
    let placement = Placement::in_parents(&limits, vec![scratch.parent.clone()]);
    let error = refused(Cgroup::create(&placement, &limits));
    assert!(matches!(error.kind(), ErrorKind::Setup | ErrorKind::Unsupported), "{error:?}");
    assert_eq!(error.step(), Step::Cgroup);
    assert!(error.path().is_some_and(|path| path.starts_with(&scratch.dir)), "{error:?}");
    assert_eq!(scratch.entries(), Vec::<String>::new());
}

#[test]
fn failure_in_one_hierarchy_removes_the_directory_in_another() {
    let Some(good) = Scratch::new("undo-good", &pids(5)) else { return };
    let Some(bad) = Scratch::new("undo-bad", &pids(5)) else { return };
    fs::remove_dir(&bad.dir).expect("it is empty");
    let error = refused(make_groups(&[good.parent.clone(), bad.parent.clone()]));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(good.entries(), Vec::<String>::new());
    fs::create_dir(&bad.dir).expect("for the clean-up");
}

#[test]
fn taken_names_are_passed_over() {
    let Some(scratch) = Scratch::new("names", &pids(5)) else { return };
    let owner = Owner::current().expect("proc is mounted");
    let first = make_groups(std::slice::from_ref(&scratch.parent)).expect("it is writable");
    let next = BoxName::parse(first[0].path().file_name().and_then(|name| name.to_str()).expect("ASCII"));
    let next = next.expect("we made the name").counter + 1;
    // Other tests count on meanwhile, so the next hundred are taken.
    for counter in next..next + 100 {
        fs::create_dir(scratch.dir.join(BoxName { owner, counter }.to_string())).expect("it is free");
    }
    let second = make_groups(std::slice::from_ref(&scratch.parent)).expect("there are more names");
    assert_eq!(scratch.entries().len(), 102);
    drop((first, second));
}

#[test]
fn many_threads_make_boxes_at_once() {
    let limits = pids(5);
    let Some(placement) = placement(&limits) else { return };
    let paths = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..20)
                        .map(|_| only_path(&Cgroup::create(&placement, &limits).expect("it is placed")))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), 160);
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn we_leave_our_own_version_2_cgroup_for_the_leaf_beside_the_boxes() {
    let Some(placement) = placement(&pids(5)) else { return };
    let [parent] = placement.parents() else { panic!("pids is in one hierarchy") };
    let cgroup = Cgroup::create(&placement, &pids(5)).expect("it is placed");
    assert_eq!(only_path(&cgroup).parent(), Some(&*parent.dir));
    let own = fs::read_to_string("/proc/self/cgroup").expect("proc is mounted");
    let moved = own.lines().any(|line| line.starts_with("0::") && line.ends_with("/belljar-host"));
    // Only cgroups other than the root have a type, and only those are bound by the rule.
    let bound = parent.version == Version::V2 && parent.dir.join("cgroup.type").exists();
    assert_eq!(moved, bound, "{own}");
    if bound {
        assert_eq!(processes(&parent.dir), Vec::<String>::new());
        assert!(processes(&parent.dir.join("belljar-host")).contains(&std::process::id().to_string()));
    }
}

#[test]
fn dead_hosts_are_swept_and_nobody_else() {
    let Some(scratch) = Scratch::new("sweep", &pids(5)) else { return };
    let own = Owner::current().expect("proc is mounted");
    let dead = Owner { start: own.start + 1, ..own };
    let name = |owner, counter| BoxName { owner, counter }.to_string();
    let orphans = [name(dead, 0), name(dead, 1), name(Owner { pid: 1 << 22, ..own }, 0)];
    let others = [
        name(own, u64::MAX),
        name(Owner { pid_ns: own.pid_ns + 1, ..dead }, 0),
        "belljar-host".to_owned(),
        format!("{}-5", name(dead, 0)),
        format!("x{}", name(dead, 0)),
        "belljar-1-2-3".to_owned(),
    ];
    for name in orphans.iter().chain(&others) {
        fs::create_dir(scratch.dir.join(name)).expect("it is writable");
    }
    // An orphaned program in one of them, and an innocent one in another.
    let inhabit = |name: &str| {
        let procs = scratch.dir.join(name).join("cgroup.procs");
        let script = format!("echo 0 >{} && exec sleep 1000", procs.display());
        let child =
            std::process::Command::new("/bin/sh").arg("-c").arg(script).spawn().expect("there is a shell");
        until("it is inside", || processes(&scratch.dir.join(name)).len() == 1);
        child
    };
    let mut orphaned = inhabit(&orphans[1]);
    let mut innocent = inhabit(&others[0]);

    assert_eq!(sweep_parent(&scratch.parent), 3);
    assert!(!wait(&mut orphaned).success());
    let left: BTreeSet<_> = scratch.entries().into_iter().collect();
    assert_eq!(left, others.iter().cloned().collect());
    assert!(innocent.try_wait().expect("it is our child").is_none(), "it runs on");
    assert_eq!(sweep_parent(&scratch.parent), 0);
    innocent.kill().expect("it is our child");
    wait(&mut innocent);
    until("the kernel has let go of it", || processes(&scratch.dir.join(&others[0])).is_empty());
}

#[test]
fn sweeping_happens_once_per_directory() {
    let Some(scratch) = Scratch::new("sweep-once", &pids(5)) else { return };
    let own = Owner::current().expect("proc is mounted");
    let orphan =
        scratch.dir.join(BoxName { owner: Owner { start: own.start + 1, ..own }, counter: 0 }.to_string());
    fs::create_dir(&orphan).expect("it is writable");
    let placement = Placement::in_parents(&pids(5), vec![scratch.parent.clone()]);
    assert_eq!(super::sweep::sweep(&placement), 1);
    fs::create_dir(&orphan).expect("it was swept");
    assert_eq!(super::sweep::sweep(&placement), 0);
}

/// On a hybrid host version 2 has hardly a controller, but it works, and measures CPU time.
#[test]
fn version_2_beside_version_1_measures_cpu_time() {
    settle();
    let layout = Layout::discover().expect("proc is mounted");
    let Some(hierarchy) = layout.v2().filter(|hierarchy| !hierarchy.read_only) else { return };
    let Ok(dir) = CgroupParent::Auto.directory(&layout, hierarchy) else { return };
    let limits = Limits { cpu_accounting: true, ..Limits::default() };
    let Ok(parent) = Parent::open(Version::V2, &dir, vec![Controller::CpuAcct], &CgroupParent::Auto) else {
        return;
    };
    if parent.check().is_err() || nix::unistd::access(&dir, nix::unistd::AccessFlags::W_OK).is_err() {
        return;
    }
    let placement = Placement::in_parents(&limits, vec![parent]);
    let mut cgroup = Cgroup::create(&placement, &limits).expect("the directory is writable");
    assert!(run_in(&cgroup, "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done").success());
    let counters = cgroup.counters().expect("they are readable");
    assert!(counters.cpu > Some(std::time::Duration::from_millis(5)), "{counters:?}");
    let mut child = tree_in(&cgroup);
    let path = only_path(&cgroup);
    cgroup.kill().expect("they are ours");
    wait(&mut child);
    cgroup.remove().expect("they are dead");
    assert!(!path.exists());
}

/// `cargo test --release -- --ignored --nocapture create_and_remove`
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::print_stdout, reason = "the result of the measurement")]
fn measure_create_and_remove() {
    for (what, limits) in [
        ("pids", pids(64)),
        ("memory+pids", Limits { memory_max: Some(64 << 20), ..pids(64) }),
        ("memory+pids+cpuacct", Limits { memory_max: Some(64 << 20), cpu_accounting: true, ..pids(64) }),
    ] {
        let Some(placement) = placement(&limits) else { continue };
        let start = Instant::now();
        for _ in 0..500 {
            Placement::resolve(&limits, &CgroupParent::Auto).expect("it was just resolved");
        }
        println!("{what}: {:?} to resolve", start.elapsed() / 500);
        let mut times: Vec<_> = (0..550)
            .map(|_| {
                let start = Instant::now();
                let mut cgroup = Cgroup::create(&placement, &limits).expect("it is placed");
                let created = start.elapsed();
                cgroup.remove().expect("it is empty");
                (start.elapsed(), created)
            })
            .skip(50)
            .collect();
        times.sort();
        let (all, created) = times[times.len() / 2];
        println!(
            "{what}: {all:?} in all, {created:?} of it to create; p99 {:?}",
            times[times.len() * 99 / 100].0
        );
    }
}
