//! Programs: made from their source in one sandbox, run in others.

use std::io::{ErrorKind, Write};

use belljar::{Command, Mount, Output, Plan, Sandbox, Seccomp, Stdio};

use crate::language::Language;
use crate::machine::Machine;
use crate::problem_set::{Limits, Source};
use crate::run::Run;
use crate::{Result, policy, verdict};

/// A program that can be run.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    language: Language,
    bytes: Vec<u8>,
    /// What its language needs besides the system view.
    tools: &'a [Mount],
}

impl<'a> Program<'a> {
    /// The program, if there is one in the source, and how the compiler fared.
    pub(crate) fn compile(source: &Source, machine: &'a Machine) -> (Option<Self>, Run) {
        let language = source.language;
        let tools = machine.tools(language);
        let sandbox = policy::with_tools(policy::sandbox(&policy::COMPILER), tools);
        let sandbox = policy::with_file(sandbox, language.source(), &source.text);
        let output = match sandbox.plan() {
            Ok(plan) => execute(&plan, language.compile(), &[], &policy::COMPILER),
            Err(error) => Err(error.into()),
        };
        match output {
            Ok(output) => {
                let run = Run::new(verdict::of_compiler(&output), &output.outcome.usage);
                let program = || Self { language, bytes: output.stdout, tools };
                (output.outcome.success().then(program), run)
            }
            Err(error) => (None, Run::failed(error.as_ref())),
        }
    }

    /// A sandbox that holds it, with the filter for programs that are judged. Compilers have the default one.
    pub(crate) fn sandbox(&self, limits: &Limits) -> Sandbox {
        let sandbox = policy::with_tools(policy::sandbox(limits), self.tools).seccomp(Seccomp::judge());
        policy::with_program(sandbox, self.language.program(), &self.bytes)
    }

    /// Runs it, in such a sandbox.
    pub(crate) fn command(&self) -> Command {
        self.language.run()
    }
}

/// Runs a command in a sandbox of its own, to its end.
///
/// An error is always about the sandbox. Whatever the program does is in the outcome.
pub(crate) fn execute(plan: &Plan, mut command: Command, input: &[u8], limits: &Limits) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::capture(limits.output)).stderr(Stdio::capture(limits.output));
    let mut child = plan.spawn(&command)?;
    if let Some(mut stdin) = child.stdin.take() {
        // This cannot hang. The sandbox's init takes the output away while we write, and a program that does not read
        // its input dies of its limits, which the init watches too. Then, or if it simply did not need all of it, the
        // pipe is broken, and that is the program's business.
        match stdin.write_all(input) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    Ok(child.wait_with_output()?)
}
