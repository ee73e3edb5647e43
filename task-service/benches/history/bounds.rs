//! The bounds that figures are held to. Each that is missed is said beside its figure and again at the end, and ends the
//! program as a failure. No figure is measured again until it fits: where others use the machine, its load tells so.

use std::ops::{Bound, RangeBounds};
use std::process::ExitCode;

/// What was missed so far.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    missed: Vec<String>,
}

impl Bounds {
    /// Holds a figure to its bounds, in the same unit; gives what is to be printed behind it.
    pub(crate) fn hold(
        &mut self,
        what: &str,
        figure: f64,
        within: impl RangeBounds<f64>,
        unit: &str,
    ) -> String {
        let bound = match (within.start_bound(), within.end_bound()) {
            (Bound::Included(least), _) => format!("{least} {unit} at least"),
            (_, Bound::Included(most)) => format!("{most} {unit} at most"),
            _ => String::new(),
        };
        if within.contains(&figure) {
            return format!("  ({bound})");
        }
        self.missed.push(format!("{what}: {figure:.2} {unit}, expected {bound}"));
        format!("  MISSED: expected {bound}")
    }

    /// Says what was missed, and at which load of the machine; a success when nothing was.
    pub(crate) fn finish(self) -> ExitCode {
        if self.missed.is_empty() {
            println!("no bound missed");
            return ExitCode::SUCCESS;
        }
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("{} bounds missed, at a load of {}:", self.missed.len(), load.trim());
        self.missed.iter().for_each(|missed| println!("  {missed}"));
        ExitCode::FAILURE
    }
}
