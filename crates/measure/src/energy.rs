//! Energy counters of the processor, read from Linux's powercap tree (RAPL, on Intel and AMD).
//!
//! A zone is a folder with a `name`, a counter `energy_uj` in microjoules and the `max_energy_range_uj` at which it
//! starts again from zero. Counted are the packages and, where it is apart, their memory (`dram`); `core` and `uncore` are
//! parts of a package, `psys` holds them all, and `intel-rapl-mmio` shows the packages a second time.
//!
//! A package's counter counts everything that runs on it, its idle power included.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where Linux keeps the zones.
pub const POWERCAP: &str = "/sys/class/powercap";

/// The zones whose energies add up to that of the processors and their memory.
#[derive(Debug)]
pub struct EnergyCounter {
    zones: Vec<Zone>,
}

#[derive(Debug)]
struct Zone {
    name: String,
    counter: PathBuf,
    /// Microjoules after which the counter starts again from zero.
    range: u64,
}

impl EnergyCounter {
    /// The zones under `root`, usually [`POWERCAP`]; `None` if there are none.
    ///
    /// # Errors
    /// There are zones, but their counters cannot be read; the message names the file.
    pub fn open(root: &Path) -> io::Result<Option<Self>> {
        let Ok(entries) = fs::read_dir(root) else { return Ok(None) };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        let mut zones = Vec::new();
        for folder in folders {
            let is_zone =
                folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("intel-rapl:"));
            let name = fs::read_to_string(folder.join("name")).unwrap_or_default().trim().to_owned();
            if is_zone && (name.starts_with("package") || name == "dram") {
                zones.push(Zone::open(name, &folder)?);
            }
        }
        Ok((!zones.is_empty()).then_some(Self { zones }))
    }

    /// The zones by name, for records: `rapl: package-0 + dram`.
    pub fn source(&self) -> String {
        let names: Vec<&str> = self.zones.iter().map(|zone| zone.name.as_str()).collect();
        format!("rapl: {}", names.join(" + "))
    }

    /// The counters as they stand; see [`EnergyCounter::joules_since`].
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn read(&self) -> io::Result<Vec<u64>> {
        self.zones.iter().map(|zone| read_number(&zone.counter)).collect()
    }

    /// Joules since an earlier reading. A counter may have started again from zero once in between.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn joules_since(&self, earlier: &[u64]) -> io::Result<f64> {
        let mut microjoules = 0;
        for (zone, &before) in self.zones.iter().zip(earlier) {
            let now = read_number(&zone.counter)?;
            microjoules +=
                if now < before { (zone.range + now).saturating_sub(before) } else { now - before };
        }
        Ok(microjoules as f64 / 1e6)
    }
}

impl Zone {
    fn open(name: String, folder: &Path) -> io::Result<Self> {
        let counter = folder.join("energy_uj");
        read_number(&counter)?;
        Ok(Self { name, counter, range: read_number(&folder.join("max_energy_range_uj"))? })
    }
}

fn read_number(path: &Path) -> io::Result<u64> {
    let named = |kind, what: String| io::Error::new(kind, format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| named(error.kind(), error.to_string()))?;
    text.trim()
        .parse()
        .map_err(|_| named(io::ErrorKind::InvalidData, format!("expected a number, found {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a zone `(folder, name, energy, range)`.
    fn zone(root: &Path, folder: &str, name: &str, energy: u64) {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("name"), format!("{name}\n")).expect("a file");
        fs::write(folder.join("energy_uj"), format!("{energy}\n")).expect("a file");
        fs::write(folder.join("max_energy_range_uj"), "262143328850\n").expect("a file");
    }

    #[test]
    fn packages_and_memory_are_added_and_their_parts_are_not() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        zone(root, "intel-rapl:0", "package-0", 1_000_000);
        zone(root, "intel-rapl:0:0", "core", 500_000);
        zone(root, "intel-rapl:0:1", "dram", 7);
        zone(root, "intel-rapl:1", "psys", 3);
        zone(root, "intel-rapl-mmio:0", "package-0", 1_000_000);
        let counter = EnergyCounter::open(root).expect("readable").expect("zones");
        assert_eq!(counter.source(), "rapl: package-0 + dram");
        let before = counter.read().expect("numbers");
        assert_eq!(before, [1_000_000, 7]);
        for (folder, energy) in
            [("intel-rapl:0", 3_500_000), ("intel-rapl:0:0", 2_000_000), ("intel-rapl:0:1", 250_007)]
        {
            fs::write(root.join(folder).join("energy_uj"), format!("{energy}\n")).expect("a file");
        }
        assert_eq!(counter.joules_since(&before).expect("numbers"), 2.75);
    }

    #[test]
    fn a_counter_that_started_again_counts_on() {
        let root = tempfile::tempdir().expect("a folder");
        zone(root.path(), "intel-rapl:0", "package-0", 262_143_328_850 - 1_500_000);
        let counter = EnergyCounter::open(root.path()).expect("readable").expect("zones");
        let before = counter.read().expect("numbers");
        zone(root.path(), "intel-rapl:0", "package-0", 2_000_000);
        assert_eq!(counter.joules_since(&before).expect("numbers"), 3.5);
    }

    #[test]
    fn no_tree_is_no_counter_and_a_damaged_one_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(EnergyCounter::open(&root.path().join("absent")).expect("no error").is_none());
        assert!(EnergyCounter::open(root.path()).expect("no error").is_none());
        zone(root.path(), "intel-rapl:0", "package-0", 1);
        fs::write(root.path().join("intel-rapl:0/energy_uj"), "many").expect("a file");
        let error = EnergyCounter::open(root.path()).expect_err("no number").to_string();
        assert!(error.contains("energy_uj") && error.contains("many"), "{error}");
    }
}
