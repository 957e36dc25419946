//! Flags that say how hard a run works the machine.

use clap::Args;
use shakti_train::{Pace, PowerSupplies};

use crate::failure::Failure;
use crate::output::Output;

/// How hard the machine is worked; none of this changes the result.
#[derive(Debug, Args)]
pub struct PaceArgs {
    /// Let other programs go first: added to the priority number of the process, 19 gives way to all (Unix)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=19))]
    nice: Option<u8>,
    /// Compute this part of the time and rest after every step, so that the machine stays cool
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    max_cpu: Option<u8>,
    /// Save and pause while the machine runs on battery, go on by itself when it is plugged in (Linux)
    #[arg(long)]
    pause_on_battery: bool,
}

impl PaceArgs {
    /// Lowers the priority of this thread and those it starts, and says how steps follow each other.
    pub fn apply(&self, output: Output) -> Result<Pace, Failure> {
        if let Some(nice) = self.nice {
            lower_priority(nice)?;
        }
        let supplies = PowerSupplies::system();
        if self.pause_on_battery && !supplies.has_battery() {
            output.warn("--pause-on-battery: this system lists no battery, so the run never pauses");
        }
        Ok(Pace {
            max_cpu: self.max_cpu.map(|percent| f64::from(percent) / 100.0),
            pause_on_battery: self.pause_on_battery.then_some(supplies),
        })
    }
}

#[cfg(unix)]
fn lower_priority(nice: u8) -> Result<(), Failure> {
    match rustix::process::nice(i32::from(nice)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::internal(format!("--nice {nice}: the system refuses: {error}"))),
    }
}

#[cfg(not(unix))]
fn lower_priority(_: u8) -> Result<(), Failure> {
    Err(Failure::bad_input("--nice: this system has no such priorities"))
}
