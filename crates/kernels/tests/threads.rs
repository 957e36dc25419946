//! The number of threads follows what the system lets this process use.

use std::process::Command;

use shakti_kernels::{Cpu, offered_threads};

/// Set for the copy of this program that runs on one core.
const ON_ONE_CORE: &str = "SHAKTI_TEST_ON_ONE_CORE";

#[test]
fn more_threads_than_cores_are_not_started() {
    for asked in [1, 2, 4, 8, 1000] {
        let cpu = Cpu::detect(Some(asked)).expect("a kernel set");
        assert_eq!(cpu.pool.threads(), asked.min(offered_threads()));
    }
    let cpu = Cpu::detect(None).expect("a kernel set");
    assert_eq!(cpu.pool.threads(), offered_threads());
}

/// Runs itself again where the system lets it use one core.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_may_use_one_core_starts_one_thread() {
    if std::env::var_os(ON_ONE_CORE).is_some() {
        assert_eq!(offered_threads(), 1);
        assert_eq!(Cpu::detect(Some(8)).expect("a kernel set").pool.threads(), 1);
        return;
    }
    let this = std::env::current_exe().expect("a path");
    let arguments = ["--exact", "a_process_that_may_use_one_core_starts_one_thread"];
    let mut again = Command::new("taskset");
    again.args(["--cpu-list", &first_core()]).arg(this).args(arguments).env(ON_ONE_CORE, "");
    match again.output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => eprintln!("skipped, `taskset` cannot be run: {error}"),
    }
}

/// A core that this process may use.
#[cfg(target_os = "linux")]
fn first_core() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says so");
    let allowed =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list of cores");
    allowed.trim().split([',', '-']).next().expect("a core").to_owned()
}
