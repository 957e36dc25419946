//! How hard a run works the machine: rest between steps, pauses while the machine runs on battery.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two looks at the battery, and between two at whether to stop while nothing is computed.
const LOOK: Duration = Duration::from_millis(500);

/// What a run spares; by default nothing. It changes when steps are made, never their results.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Share of the time that is computed, more than 0 and at most 1; the rest is rested.
    pub max_cpu: Option<f64>,
    /// Where to look whether the machine runs on battery; computing pauses while it does.
    pub pause_on_battery: Option<PowerSupplies>,
}

/// The power supplies that the system lists.
#[derive(Clone, Debug)]
pub struct PowerSupplies {
    root: PathBuf,
}

impl PowerSupplies {
    /// Those of this system (Linux: `/sys/class/power_supply`).
    pub fn system() -> Self {
        Self::at(Path::new("/sys/class/power_supply"))
    }

    /// Those in a folder of the same form.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Whether the machine runs on battery: a battery of the system discharges and no mains is on line. No where
    /// the system lists nothing.
    pub fn on_battery(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.root) else { return false };
        let (mut discharges, mut mains) = (false, false);
        for folder in entries.flatten().map(|entry| entry.path()) {
            let read =
                |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
            match read("type").as_str() {
                // Mice and headsets have batteries too; their scope is `Device`.
                "Battery" => discharges |= read("status") == "Discharging" && read("scope") != "Device",
                "Mains" | "USB" => mains |= read("online") == "1",
                _ => {}
            }
        }
        discharges && !mains
    }

    /// Whether a battery of the system is listed at all.
    pub fn has_battery(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.root) else { return false };
        entries.flatten().any(|entry| {
            let kind = fs::read_to_string(entry.path().join("type")).unwrap_or_default();
            let scope = fs::read_to_string(entry.path().join("scope")).unwrap_or_default();
            kind.trim() == "Battery" && scope.trim() != "Device"
        })
    }
}

/// A pace while it is kept.
#[derive(Debug)]
pub(crate) struct Pacer<'a> {
    pace: &'a Pace,
    looked: Option<Instant>,
}

impl<'a> Pacer<'a> {
    pub fn new(pace: &'a Pace) -> Self {
        Self { pace, looked: None }
    }

    /// Rests after `worked` of computing, or until `stop`.
    pub fn rest(&self, worked: Duration, stop: &dyn Fn() -> bool) {
        if let Some(share) = self.pace.max_cpu {
            wait(worked.mul_f64(1.0 / share - 1.0), stop);
        }
    }

    /// Whether computing should pause; looks now and then only.
    pub fn should_pause(&mut self) -> bool {
        let Some(supplies) = &self.pace.pause_on_battery else { return false };
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return false;
        }
        self.looked = Some(Instant::now());
        supplies.on_battery()
    }

    /// Waits until the machine is on mains again, or until `stop`.
    pub fn wait_for_mains(&self, stop: &dyn Fn() -> bool) {
        let Some(supplies) = &self.pace.pause_on_battery else { return };
        while supplies.on_battery() && !stop() {
            std::thread::sleep(LOOK);
        }
    }
}

fn wait(time: Duration, stop: &dyn Fn() -> bool) {
    let end = Instant::now() + time;
    while !stop() {
        match end.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(LOOK)),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(root: &Path, name: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(root.join(name)).expect("a folder");
        for (file, text) in files {
            fs::write(root.join(name).join(file), format!("{text}\n")).expect("a file");
        }
    }

    #[test]
    fn on_battery_is_a_discharging_battery_without_mains() {
        let folder = tempfile::tempdir().expect("a folder");
        let supplies = PowerSupplies::at(folder.path());
        assert!(!supplies.on_battery() && !supplies.has_battery(), "a desktop lists nothing");
        supply(
            folder.path(),
            "hidpp_battery_0",
            &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")],
        );
        assert!(!supplies.on_battery() && !supplies.has_battery(), "a mouse");
        supply(folder.path(), "BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        assert!(supplies.on_battery() && supplies.has_battery());
        supply(folder.path(), "AC", &[("type", "Mains"), ("online", "0")]);
        assert!(supplies.on_battery());
        supply(folder.path(), "AC", &[("type", "Mains"), ("online", "1")]);
        assert!(!supplies.on_battery(), "discharging a little while the charger is plugged in");
        supply(folder.path(), "AC", &[("type", "Mains"), ("online", "0")]);
        supply(folder.path(), "BAT0", &[("type", "Battery"), ("status", "Full")]);
        assert!(!supplies.on_battery());
        assert!(!PowerSupplies::at(&folder.path().join("absent")).on_battery());
    }

    #[test]
    fn rest_is_the_share_that_is_not_computed_and_ends_when_asked() {
        let pace = Pace { max_cpu: Some(0.25), pause_on_battery: None };
        let begin = Instant::now();
        Pacer::new(&pace).rest(Duration::from_millis(40), &|| false);
        let rested = begin.elapsed();
        assert!(rested >= Duration::from_millis(119), "{rested:?} of 120 ms");
        let begin = Instant::now();
        Pacer::new(&pace).rest(Duration::from_secs(100), &|| true);
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
}
