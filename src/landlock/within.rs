//! Rules within other rules: what both allow.

use std::path::{Component, Path, PathBuf};

use super::{Landlock, LandlockAccess, PathRule};

impl Landlock {
    /// Rules that allow what these and `outer` both allow, and deny what one of them denies.
    ///
    /// Paths of rules lead through no symlink, so that one is below another if its text is. A right that one of the two
    /// does not deny anywhere is the other's to allow.
    pub(crate) fn within(self, outer: &Self) -> Self {
        let (inner_denies, outer_denies) = (self.handled().files, outer.handled().files);
        let mut paths = Vec::new();
        let mut allow = |path: &Path, bits: u64, optional| {
            if bits != 0 {
                paths.push(PathRule { path: path.to_owned(), access: LandlockAccess(bits), optional });
            }
        };
        for rule in &self.paths {
            allow(&rule.path, rule.access.0 & inner_denies & !outer_denies, rule.optional);
        }
        for rule in &outer.paths {
            allow(&rule.path, rule.access.0 & outer_denies & !inner_denies, rule.optional);
        }
        for rule in &self.paths {
            for other in &outer.paths {
                let bits = rule.access.0 & other.access.0 & inner_denies & outer_denies;
                let (path, of_outer) = (plain(&rule.path), plain(&other.path));
                if path.starts_with(&of_outer) {
                    allow(&rule.path, bits, rule.optional || other.optional);
                } else if of_outer.starts_with(&path) {
                    // What is left for a place below, which need not be there or have these rights.
                    allow(&other.path, bits, true);
                }
            }
        }
        let ports = match (self.restricts_tcp(), outer.restricts_tcp()) {
            (true, true) => self.ports.into_iter().filter(|port| outer.ports.contains(port)).collect(),
            (true, false) => self.ports,
            _ => outer.ports.clone(),
        };
        Self {
            abi: self.abi.max(outer.abi),
            files: self.files || outer.files,
            tcp: self.tcp.max(outer.tcp),
            abstract_sockets: self.abstract_sockets.max(outer.abstract_sockets),
            signals: self.signals.max(outer.signals),
            paths,
            ports,
        }
    }

    /// The path of the last rule need not be there.
    #[cfg(feature = "serde")]
    pub(crate) fn last_is_optional(mut self) -> Self {
        if let Some(rule) = self.paths.last_mut() {
            rule.optional = true;
        }
        self
    }

    fn restricts_tcp(&self) -> bool {
        self.handled().ports != 0
    }
}

/// Without `..`, which leads to the directory above where there are no symlinks.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(rules: &Landlock) -> Vec<String> {
        rules.paths.iter().map(|rule| format!("{} {}", rule.path.display(), rule.access)).collect()
    }

    #[test]
    fn both_must_allow() {
        let outer =
            Landlock::new().read("/usr").rule("/srv/job", LandlockAccess::READ | LandlockAccess::WRITE);
        let within = |rules: Landlock| allowed(&rules.within(&outer));
        assert_eq!(within(Landlock::new().execute("/usr/bin")), ["/usr/bin read"]);
        assert_eq!(within(Landlock::new().read("/")), ["/usr read", "/srv/job read"]);
        assert_eq!(within(Landlock::new().write("/usr").read("/etc")), [""; 0]);
        assert_eq!(within(Landlock::new().read("/usr/../etc").read("/srv/jobs")), [""; 0]);
        assert_eq!(within(Landlock::new().read("/srv/../usr/lib")), ["/srv/../usr/lib read"]);
        let nothing = Landlock::new().read("/etc").within(&outer);
        assert!(nothing.files && nothing.paths.is_empty());
    }

    #[test]
    fn what_one_does_not_deny_is_for_the_other_to_allow() {
        let resolve = LandlockAccess::RESOLVE_UNIX;
        let outer = Landlock::new().abi(9).read("/run").rule("/run/socket", resolve);
        let rules = Landlock::new().read("/run/x").within(&outer);
        assert_eq!(
            (rules.abi, allowed(&rules)),
            (9, vec!["/run/socket resolve_unix".into(), "/run/x read".into()])
        );
        let files = Landlock::bare().read("/usr");
        assert_eq!(allowed(&Landlock::bare().restrict_tcp().within(&files)), ["/usr read"]);
        assert_eq!(allowed(&files.within(&Landlock::bare().scope_signals())), ["/usr read"]);
    }

    #[test]
    fn ports_and_scopes() {
        let ports = |rules: &Landlock| rules.ports.iter().map(|rule| rule.port).collect::<Vec<_>>();
        let outer = Landlock::bare().connect_tcp(80).bind_tcp(8080);
        let rules = Landlock::bare().connect_tcp(80).connect_tcp(8080).scope_signals().within(&outer);
        assert_eq!(ports(&rules), [80]);
        assert!(rules.scopes_signals());
        assert_eq!(ports(&Landlock::bare().read("/").within(&outer)), [80, 8080]);
        assert_eq!(ports(&outer.clone().within(&Landlock::bare().read("/"))), [80, 8080]);
        assert_eq!(ports(&outer.within(&Landlock::bare().restrict_tcp())), [0_u16; 0]);
    }
}
