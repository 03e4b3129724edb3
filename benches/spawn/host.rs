//! Hosts that are processes of their own, asked for short blocks of runs in turn, so that a machine whose speed drifts
//! gives the same ratios.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that answers each line with a line of numbers.
pub(crate) struct Host {
    child: Child,
    /// Until it is to end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Host {
    pub(crate) fn start(
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> std::io::Result<Self> {
        let mut child =
            Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Self { child, requests, answers })
    }

    /// One block of runs, in microseconds.
    pub(crate) fn block(&mut self, what: &str) -> Vec<f64> {
        let line = self.ask(what).expect("the host answers");
        line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }

    /// `None`: it has ended.
    pub(crate) fn ask(&mut self, what: &str) -> Option<String> {
        writeln!(self.requests.as_mut()?, "{what}").ok()?;
        let mut line = String::new();
        (self.answers.read_line(&mut line).ok()? > 0).then_some(line)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It cleans up behind itself when nobody asks any more.
        drop(self.requests.take());
        let patience = Instant::now() + Duration::from_secs(60);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > patience {
                self.child.kill().ok();
                self.child.wait().ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
