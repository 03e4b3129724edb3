//! What the figures shall be, beside what they are.

use std::fmt::Write as _;

pub(crate) struct Target {
    what: String,
    bound: Bound,
    measured: f64,
    unit: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// There is no target; the figure is told.
    None,
}

impl Target {
    /// A ratio.
    pub(crate) fn new(what: impl Into<String>, bound: Bound, measured: f64) -> Self {
        Self { what: what.into(), bound, measured, unit: "" }
    }

    pub(crate) fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }
}

/// A table of them.
pub(crate) fn table(targets: &[Target]) -> String {
    let mut text = "| | measured | target | |\n|---|---:|---:|---|\n".to_owned();
    for Target { what, bound, measured, unit } in targets {
        let number =
            |value: f64| if unit.is_empty() { format!("{value:.2}") } else { format!("{value:.0} {unit}") };
        let (bound, met) = match *bound {
            Bound::AtMost(most) => (format!("at most {}", number(most)), Some(*measured <= most)),
            Bound::AtLeast(least) => (format!("at least {}", number(least)), Some(*measured >= least)),
            Bound::None => (String::new(), None),
        };
        let met = met.map_or("", |met| if met { "met" } else { "**missed**" });
        // Writing to a String cannot fail.
        writeln!(text, "| {what} | {} | {bound} | {met} |", number(*measured)).ok();
    }
    text
}
