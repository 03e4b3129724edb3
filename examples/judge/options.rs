//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::Result;
use crate::problem_set::Submission;

const USAGE: &str = "usage: judge [--only NAME]... [--repeat N] [--jobs N] [DIRECTORY]";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) directory: PathBuf,
    /// Problems, files, or problems and files with a slash between; empty for all.
    only: Vec<String>,
    /// How often each submission is judged.
    pub(crate) repeat: usize,
    /// How many are judged at once.
    pub(crate) jobs: usize,
}

impl Options {
    pub(crate) fn parse() -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut options = Self {
            directory: [env!("CARGO_MANIFEST_DIR"), "examples", "judge", "problems"].iter().collect(),
            only: Vec::new(),
            repeat: 1,
            // Many submissions do nothing but wait. Those that burn then have half a processor each, which is enough to
            // be out of CPU time long before they are out of wall time.
            jobs: 2 * processors,
        };
        let mut directory = None;
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().and_then(|value| value.into_string().ok()).ok_or(USAGE);
            match argument.to_str() {
                Some("--only") => options.only.push(value()?),
                Some("--repeat") => options.repeat = positive(&value()?)?,
                Some("--jobs") => options.jobs = positive(&value()?)?,
                Some(option) if option.starts_with('-') => return Err(USAGE.into()),
                _ if directory.is_some() => return Err(USAGE.into()),
                _ => directory = Some(PathBuf::from(argument)),
            }
        }
        options.directory = directory.unwrap_or(options.directory);
        Ok(options)
    }

    pub(crate) fn selects(&self, submission: &Submission) -> bool {
        let names = [&submission.problem.name, &submission.source.file, &submission.name()];
        self.only.is_empty() || self.only.iter().any(|wanted| names.contains(&wanted))
    }
}

fn positive(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{text}` is no positive number; {USAGE}").into()),
    }
}
