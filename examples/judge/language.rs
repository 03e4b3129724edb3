//! The languages: how a source becomes a program, and how the program is run.

use belljar::Command;
use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Language {
    C,
    #[serde(rename = "C++")]
    Cpp,
    Python,
    Shell,
    Rust,
    Java,
}

/// What there is to know of a language. Paths are those inside the sandboxes.
struct Facts {
    /// The program without which its submissions cannot be judged.
    tool: &'static str,
    /// The Debian packages that bring the tool.
    packages: &'static str,
    /// Where the source is while it is compiled.
    source: &'static str,
    /// Where the program is while it runs.
    program: &'static str,
    /// Turns the source into the program, which it prints.
    compile: &'static [&'static str],
    /// Runs the program.
    run: &'static [&'static str],
}

const C: Facts = Facts {
    tool: "cc",
    packages: "gcc libc6-dev",
    source: "/src/main.c",
    program: "/box/main",
    compile: &["sh", "-c", "cc -O2 -pthread -o /tmp/main /src/main.c -lm && cat /tmp/main"],
    run: &["/box/main"],
};

const CPP: Facts = Facts {
    tool: "c++",
    packages: "g++",
    source: "/src/main.cpp",
    program: "/box/main",
    compile: &["sh", "-c", "c++ -O2 -pthread -o /tmp/main /src/main.cpp && cat /tmp/main"],
    run: &["/box/main"],
};

const PYTHON: Facts = Facts {
    tool: "python3",
    packages: "python3",
    source: "/src/main.py",
    program: "/box/main.py",
    compile: &["python3", "-I", "-c", PYTHON_CHECK],
    run: &["python3", "-I", "/box/main.py"],
};

/// A Python program is its source, if that has no syntax error.
const PYTHON_CHECK: &str = "\
import sys
source = open('/src/main.py', 'rb').read()
compile(source, 'main.py', 'exec')
sys.stdout.buffer.write(source)
";

const SHELL: Facts = Facts {
    tool: "sh",
    packages: "dash",
    source: "/src/main.sh",
    program: "/box/main.sh",
    compile: &["sh", "-c", "sh -n /src/main.sh && cat /src/main.sh"],
    run: &["sh", "/box/main.sh"],
};

const RUST: Facts = Facts {
    tool: "rustc",
    packages: "rustc",
    source: "/src/main.rs",
    program: "/box/main",
    compile: &[
        "sh",
        "-c",
        "rustc --edition 2021 -O -C codegen-units=1 -C strip=symbols -o /tmp/main /src/main.rs && cat /tmp/main",
    ],
    run: &["/box/main"],
};

/// The program is one class, `Main`. Its heap may grow beyond any limit here: the sandbox counts the memory of a
/// submission in every language, and a virtual machine that gave up before would make a runtime error of it.
const JAVA: Facts = Facts {
    tool: "javac",
    packages: "default-jdk-headless",
    source: "/src/Main.java",
    program: "/box/Main.class",
    compile: &[
        "sh",
        "-c",
        "javac -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 -d /tmp /src/Main.java && cat /tmp/Main.class",
    ],
    run: &[
        "java",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
        "-Xms16m",
        "-Xmx2g",
        "-cp",
        "/box",
        "Main",
    ],
};

/// Where `machine.rs` puts a Rust toolchain that the system view does not show.
pub(crate) const RUST_HOME: &str = "/opt/rust";

impl Language {
    fn facts(self) -> &'static Facts {
        match self {
            Self::C => &C,
            Self::Cpp => &CPP,
            Self::Python => &PYTHON,
            Self::Shell => &SHELL,
            Self::Rust => &RUST,
            Self::Java => &JAVA,
        }
    }

    /// The languages whose tools it takes.
    pub(crate) fn needs(self) -> impl Iterator<Item = Self> {
        // It links with the C compiler.
        let linker = (self == Self::Rust).then_some(Self::C);
        std::iter::once(self).chain(linker)
    }

    pub(crate) fn tool(self) -> &'static str {
        self.facts().tool
    }

    pub(crate) fn packages(self) -> &'static str {
        self.facts().packages
    }

    pub(crate) fn source(self) -> &'static str {
        self.facts().source
    }

    pub(crate) fn program(self) -> &'static str {
        self.facts().program
    }

    /// Runs the tool to see whether it is there.
    pub(crate) fn probe(self) -> Command {
        // Not every shell tells its version.
        let question = if self == Self::Shell { ["-c", ":"].as_slice() } else { &["--version"] };
        command(&[&[self.tool()], question].concat())
    }

    pub(crate) fn compile(self) -> Command {
        command(self.facts().compile)
    }

    pub(crate) fn run(self) -> Command {
        command(self.facts().run)
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words.first().copied().unwrap_or_default());
    command.args(words.iter().skip(1));
    command.env("PATH", format!("{RUST_HOME}/bin:/usr/local/bin:/usr/bin:/bin")).env("LC_ALL", "C.UTF-8");
    command
}
