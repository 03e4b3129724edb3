//! Every cause that is told apart, with the remedy that goes with it.

use super::*;

fn user() -> Facts {
    Facts { release: "6.12.0".to_owned(), uid: 1000, ids_mapped: true, ..Facts::default() }
}

fn clone(errno: i32) -> Refusal {
    refusal(Step::Clone, errno, "creating the namespaces with clone3 failed")
}

fn refusal(step: Step, errno: i32, what: &str) -> Refusal {
    Refusal { step, errno, what: what.to_owned(), hint: Some("HINT".to_owned()) }
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = user();
    change(&mut facts);
    facts
}

/// Facts, feature, refusal; a piece of the cause and of the remedy.
type Case = (Facts, Option<Feature>, Refusal, &'static str, &'static str);

fn refused_namespaces() -> Vec<Case> {
    let userns = Some(Feature::UserNs);
    let zero = |feature| move |facts: &mut Facts| facts.most = vec![(feature, 0)];
    vec![
        (
            with(|facts| facts.userns_clone = Some(0)),
            userns,
            clone(libc::EPERM),
            "kernel.unprivileged_userns_clone is 0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            with(zero(Feature::UserNs)),
            userns,
            clone(libc::ENOSPC),
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        (
            with(zero(Feature::UserNs)),
            Some(Feature::PidNs),
            clone(libc::ENOSPC),
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        (
            with(zero(Feature::NetNs)),
            Some(Feature::NetNs),
            clone(libc::ENOSPC),
            "user.max_net_namespaces is 0",
            "sysctl -w user.max_net_namespaces=15000",
        ),
        (
            with(|facts| facts.most = vec![(Feature::UserNs, 500), (Feature::NetNs, 0)]),
            None,
            clone(libc::ENOSPC),
            "user.max_net_namespaces is 0",
            "sysctl -w user.max_net_namespaces=15000",
        ),
        (
            with(|facts| facts.most = vec![(Feature::UserNs, 500)]),
            userns,
            clone(libc::ENOSPC),
            "all are in use",
            "sysctl -w user.max_user_namespaces=2000",
        ),
        (user(), userns, clone(libc::EUSERS), "limit of namespaces is reached", "user.max_"),
        (
            with(|facts| facts.apparmor_userns = Some(1)),
            userns,
            refusal(Step::IdMap, libc::EPERM, "writing uid_map failed"),
            "kernel.apparmor_restrict_unprivileged_userns is 1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            with(|facts| facts.apparmor_userns = Some(1)),
            Some(Feature::UtsNs),
            refusal(Step::Hostname, libc::EACCES, "setting the host name failed"),
            "kernel.apparmor_restrict_unprivileged_userns is 1",
            "userns,",
        ),
        (
            with(|facts| facts.filtered = true),
            userns,
            clone(libc::EPERM),
            "seccomp filter",
            "seccomp=unconfined",
        ),
        (
            with(|facts| (facts.filtered, facts.userns_clone) = (true, Some(1))),
            userns,
            clone(libc::EPERM),
            "seccomp filter",
            "Unconfined",
        ),
        (with(|facts| facts.chrooted = true), userns, clone(libc::EPERM), "chroot", "pivot_root"),
        (with(|facts| facts.ids_mapped = false), userns, clone(libc::EPERM), "not mapped", "map it"),
        (with(|facts| facts.selinux = true), userns, clone(libc::EACCES), "SELinux", "audit2allow"),
        (user(), userns, clone(libc::EPERM), "creating the namespaces", "HINT"),
        // The sysctls are about unprivileged processes.
        (
            with(|facts| (facts.privileged, facts.userns_clone, facts.filtered) = (true, Some(0), true)),
            userns,
            clone(libc::EPERM),
            "seccomp filter",
            "seccomp=unconfined",
        ),
    ]
}

fn refused_mounts() -> Vec<Case> {
    let proc = || refusal(Step::Mount, libc::EPERM, "mounting proc on /proc failed");
    let old = || with(|facts| facts.release = "5.10.0-46-cloud-amd64".to_owned());
    vec![
        (
            with(|facts| facts.proc = Proc::Masked(vec!["/proc/kcore".to_owned()])),
            None,
            proc(),
            "/proc is masked (/proc/kcore)",
            "systempaths=unconfined",
        ),
        (
            with(|facts| facts.proc = Proc::Reduced("ro".to_owned())),
            None,
            proc(),
            "mounted with ro",
            "mount -t proc",
        ),
        (with(|facts| facts.proc = Proc::Missing), None, proc(), "no procfs", "mount -t proc"),
        (
            with(|facts| facts.proc = Proc::Missing),
            Some(Feature::UserNs),
            refusal(Step::IdMap, libc::ENOENT, "writing setgroups failed"),
            "no procfs is mounted",
            "mount -t proc proc /proc",
        ),
        (
            with(|facts| facts.proc = Proc::Reduced("ro".to_owned())),
            Some(Feature::UserNs),
            refusal(Step::IdMap, libc::EROFS, "writing setgroups failed"),
            "/proc is mounted read-only",
            "remount,rw /proc",
        ),
        (
            old(),
            None,
            refusal(Step::Mount, libc::ENOSYS, "binding /usr on /usr (read-only) failed"),
            "needs Linux 5.12, this is 5.10.0",
            "5.12 or later",
        ),
        (
            old(),
            None,
            refusal(Step::Root, libc::EPERM, "mounting an overlay of 1 layers failed"),
            "overlayfs in a user namespace: needs Linux 5.11",
            "5.11 or later",
        ),
        (
            user(),
            None,
            refusal(Step::Root, libc::ENODEV, "mounting an overlay of 1 layers failed"),
            "does not have overlay",
            "modprobe overlay",
        ),
        (
            user(),
            None,
            refusal(Step::MountSource, libc::EINVAL, "id-mapping the mount of /tmp/x failed"),
            "does not support id-mapped mounts",
            "ext4",
        ),
        (
            user(),
            Some(Feature::TimeNs),
            refusal(Step::TimeOffsets, libc::EINVAL, "unsharing the time namespace failed"),
            "built without time namespaces",
            "CONFIG_TIME_NS",
        ),
        (
            with(|facts| facts.memfd_noexec = Some(2)),
            None,
            refusal(Step::Init, libc::EACCES, "executing the init from a memfd failed"),
            "vm.memfd_noexec is 2",
            "sysctl -w vm.memfd_noexec=1",
        ),
        (
            with(|facts| facts.filtered = true),
            Some(Feature::MemoryMax),
            refusal(Step::Cgroup, libc::EACCES, "the cgroup is not writable"),
            "the cgroup is not writable",
            "HINT",
        ),
    ]
}

#[test]
fn causes_are_told_apart() {
    for (facts, feature, refusal, cause, remedy) in refused_namespaces().into_iter().chain(refused_mounts()) {
        let found = explain(&facts, feature, &refusal);
        assert!(found.cause.contains(cause), "{refusal:?} on {facts:?}: {found:?}, not {cause}");
        assert!(found.remedy.contains(remedy), "{refusal:?} on {facts:?}: {found:?}, not {remedy}");
        assert!(found.cause.contains(&refusal.what), "the failure itself is told, too: {found:?}");
    }
}

#[test]
fn there_is_always_a_remedy() {
    let refusal = Refusal { hint: None, ..clone(libc::EIO) };
    assert_eq!(explain(&user(), None, &refusal).remedy, UNKNOWN);
}

#[test]
fn landlock_is_missing_for_three_reasons() {
    let old = with(|facts| facts.release = "5.10.0".to_owned());
    assert!(landlock(&old, libc::ENOSYS).cause.contains("needs Linux 5.13"));
    assert!(landlock(&user(), libc::ENOSYS).remedy.contains("CONFIG_SECURITY_LANDLOCK"));
    assert!(landlock(&user(), libc::EOPNOTSUPP).remedy.contains("lsm=landlock"));
    assert!(landlock(&with(|facts| facts.filtered = true), libc::EPERM).cause.contains("seccomp"));
}
