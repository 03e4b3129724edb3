//! What became of one run.

use std::error::Error;
use std::time::Duration;

use belljar::Usage;

use crate::report;
use crate::verdict::{Code, Finding};

/// What became of one run, be it of the compiler or of a test.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Code,
    pub(crate) cpu: Duration,
    /// In bytes.
    pub(crate) peak: u64,
    /// For people.
    pub(crate) remark: String,
}

impl Run {
    pub(crate) fn new((code, remark): Finding, usage: &Usage) -> Self {
        // Without a memory cgroup the largest process has to stand for all.
        Self { code, cpu: usage.cpu, peak: usage.peak_memory.unwrap_or(usage.max_rss), remark }
    }

    pub(crate) fn failed(error: &(dyn Error + 'static)) -> Self {
        Self { code: Code::Judge, cpu: Duration::ZERO, peak: 0, remark: report::explain(error) }
    }
}
