use super::*;
use crate::LandlockAccess;
use crate::lowering::SourceMode;
use crate::wire::PlanImage;

fn lowered(policy: &Landlock, kernel: u32, best_effort: bool) -> Result<(Vec<u8>, Enforced, InForce)> {
    let mut lowering = Lowering::new(SourceMode::Paths);
    let mut enforced = Enforced::default();
    let in_force = lower(policy, Ok(kernel), best_effort, &mut lowering, &mut enforced)?;
    Ok((lowering.finish()?.0, enforced, in_force))
}

fn setup(image: &[u8]) -> Vec<Setup<'_>> {
    PlanImage::parse(image).unwrap().setup().map(Option::unwrap).collect()
}

#[test]
fn closed_denies_all_that_the_abi_has() {
    let (image, enforced, in_force) = lowered(&Landlock::new().execute("/usr"), 7, false).unwrap();
    assert_eq!(
        setup(&image),
        [
            Setup::Ruleset { files: 0xffff, ports: 3, scopes: 3 },
            Setup::AllowPath { path: c"/usr", access: 0b1101, on_file: 0b101, optional: 0 },
        ]
    );
    assert!(enforced.contains(Feature::Landlock));
    assert_eq!(in_force, InForce { files: true, ports: true });
    let second = Landlock::new().abi(2);
    let (image, _, in_force) = lowered(&second, 7, false).unwrap();
    assert_eq!(setup(&image), [Setup::Ruleset { files: 0x3fff, ports: 0, scopes: 0 }]);
    assert!(!in_force.ports);
}

#[test]
fn bare_denies_what_is_named() {
    let (image, ..) = lowered(&Landlock::bare().connect_tcp(443).bind_tcp(0), 4, false).unwrap();
    assert_eq!(
        setup(&image),
        [
            Setup::Ruleset { files: 0, ports: 3, scopes: 0 },
            Setup::AllowPort { port: 443, access: 2 },
            Setup::AllowPort { port: 0, access: 1 },
        ]
    );
    let (image, ..) = lowered(&Landlock::bare().scope_signals(), 6, false).unwrap();
    assert_eq!(setup(&image), [Setup::Ruleset { files: 0, ports: 0, scopes: 2 }]);
    let (image, ..) = lowered(&Landlock::new().share_tcp().share_signals(), 6, false).unwrap();
    assert_eq!(setup(&image), [Setup::Ruleset { files: 0xffff, ports: 0, scopes: 1 }]);
}

#[test]
fn an_older_kernel_is_an_error_or_told() {
    let error = lowered(&Landlock::new(), 2, false).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Unsupported, Step::Landlock));
    assert_eq!(
        error.to_string(),
        "landlock of this kernel (ABI 2) cannot deny truncate (ABI 3), TCP (ABI 4), ioctl_dev (ABI 5), scopes (ABI 6)"
    );
    assert!(error.hint().unwrap().contains("Linux 6.12") && error.hint().unwrap().contains("abi(2)"));
    let (image, enforced, _) = lowered(&Landlock::new().write("/tmp").connect_tcp(1), 2, true).unwrap();
    assert_eq!(setup(&image)[0], Setup::Ruleset { files: 0x3fff, ports: 0, scopes: 0 });
    assert_eq!(setup(&image).len(), 2, "no rule of a port");
    assert!(!enforced.contains(Feature::Landlock));
    assert!(enforced.skipped()[0].reason.contains("truncate (ABI 3)"));
    let (image, enforced, in_force) = lowered(&Landlock::bare().scope_signals(), 5, true).unwrap();
    assert!(setup(&image).is_empty() && !in_force.files);
    assert_eq!(enforced.skipped()[0].feature, Feature::Landlock);
    // What is not denied needs no newer kernel.
    assert!(lowered(&Landlock::new().abi(2), 2, false).is_ok());
    assert!(lowered(&Landlock::bare().read("/").abi(3), 3, false).is_ok());
}

#[test]
fn a_kernel_without_it_is_an_error_or_told() {
    for errno in [libc::ENOSYS, libc::EOPNOTSUPP] {
        let mut lowering = Lowering::new(SourceMode::Paths);
        let mut enforced = Enforced::default();
        let none = || Err(io::Error::from_raw_os_error(errno));
        let error = lower(&Landlock::new(), none(), false, &mut lowering, &mut enforced).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().is_some());
        let in_force = lower(&Landlock::new(), none(), true, &mut lowering, &mut enforced).unwrap();
        assert_eq!(in_force, InForce::default());
        assert_eq!(enforced.skipped()[0].feature, Feature::Landlock);
    }
}

#[test]
fn rules_that_cannot_be() {
    let resolve = LandlockAccess::RESOLVE_UNIX;
    let cases = [
        (Landlock::new().abi(0), "no ABI"),
        (Landlock::new().abi(10), "no ABI"),
        (Landlock::bare(), "deny nothing"),
        (Landlock::bare().restrict_tcp().share_tcp(), "deny nothing"),
        (Landlock::new().connect_tcp(80).abi(3), "TCP cannot be denied"),
        (Landlock::new().scope_signals().abi(5), "signals cannot be denied"),
        (Landlock::new().scope_abstract_sockets().abi(5), "abstract sockets cannot be denied"),
        (Landlock::new().read("usr"), "not an absolute path"),
        (Landlock::new().read("/a\0b"), "NUL"),
        (Landlock::new().rule("/run/socket", resolve), "unknown to rules"),
        (Landlock::new().abi(2).rule("/tmp", LandlockAccess::TRUNCATE), "unknown to rules"),
    ];
    for (policy, text) in cases {
        let error = lowered(&policy, 9, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{policy:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(lowered(&Landlock::new().abi(9).rule("/run/socket", resolve), 9, false).is_ok());
}

#[test]
fn what_an_abi_lacks_has_a_name() {
    assert_eq!(missing_in(1).len(), 6);
    assert_eq!(missing_in(6), ["resolve_unix"]);
    assert!(missing_in(11).is_empty());
}
