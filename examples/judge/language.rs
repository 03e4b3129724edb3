//! The languages: how a source becomes a program, and how the program is run.

use belljar::Command;
use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Language {
    C,
    Python,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::C, Self::Python];

    /// The program without which its submissions cannot be judged, searched in `PATH` inside the sandbox.
    pub(crate) fn tool(self) -> &'static str {
        match self {
            Self::C => "cc",
            Self::Python => "python3",
        }
    }

    /// The Debian packages that bring the tool.
    pub(crate) fn packages(self) -> &'static str {
        match self {
            Self::C => "gcc libc6-dev",
            Self::Python => "python3",
        }
    }

    /// Where the source is while it is compiled.
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::C => "/src/main.c",
            Self::Python => "/src/main.py",
        }
    }

    /// Where the program is while it runs.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::C => "/box/main",
            Self::Python => "/box/main.py",
        }
    }

    /// Turns the source into the program, which it prints.
    pub(crate) fn compile(self) -> Command {
        let mut command;
        match self {
            Self::C => {
                command = Command::new("sh");
                command.args(["-c", "cc -O2 -o /tmp/main /src/main.c -lm && cat /tmp/main"]);
            }
            Self::Python => {
                command = Command::new("python3");
                command.args(["-I", "-c", PYTHON_CHECK]);
            }
        }
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs the program.
    pub(crate) fn run(self) -> Command {
        match self {
            Self::C => Command::new(self.program()),
            Self::Python => {
                let mut command = Command::new("python3");
                command.args(["-I", self.program()]);
                command
            }
        }
    }
}

/// A Python program is its source, if that has no syntax error.
const PYTHON_CHECK: &str = "\
import sys
source = open('/src/main.py', 'rb').read()
compile(source, 'main.py', 'exec')
sys.stdout.buffer.write(source)
";
