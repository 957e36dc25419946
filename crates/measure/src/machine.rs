//! The machine by name, and what this process has used of it.

use std::fs;

/// The machine that measured, for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The processor's name, or `unknown`.
    pub processor: String,
    /// Cores that the system offers to this process.
    pub cores: usize,
    /// Operating system and architecture, e.g. `linux x86_64`, with the kernel's release where the system says so.
    pub os: String,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let os = format!("{} {} {}", std::env::consts::OS, std::env::consts::ARCH, release.trim());
        Self {
            processor: processor(),
            cores: shakti_kernels::offered_threads(),
            os: os.trim_end().to_owned(),
        }
    }
}

/// The processor's name, where the system says so.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    name.unwrap_or("unknown").to_owned()
}

/// Main memory in bytes, where the system says so (Linux: `MemTotal`).
pub fn memory_bytes() -> Option<u64> {
    kib_of("/proc/meminfo", "MemTotal:")
}

/// Most memory the process has had resident, in bytes, where the system says so (Linux: `VmHWM`).
pub fn peak_memory_bytes() -> Option<u64> {
    kib_of("/proc/self/status", "VmHWM:")
}

/// The bytes that a line `KEY  NUMBER kB` of a file states.
fn kib_of(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// CPU time of all threads of this process, in seconds, where the system says so.
pub fn cpu_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_all_of_it() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.os.starts_with("linux "), "{machine:?}");
        assert!(peak_memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(memory_bytes() > peak_memory_bytes());
        let before = cpu_seconds().expect("a clock");
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 20 {
            std::hint::spin_loop();
        }
        let used = cpu_seconds().expect("a clock") - before;
        assert!((0.001..10.0).contains(&used), "{used}");
    }
}
