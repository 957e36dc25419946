//! A memory limit for other programs: a control group where this process may make one, else their address space.

use std::fs;
use std::path::PathBuf;

use crate::process::Program;

/// Bytes that the programs may have.
const LIMIT: u64 = 1_000_000_000;

/// A limit of [`LIMIT`] bytes; the group goes when this does.
#[derive(Debug)]
pub struct MemoryLimit {
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    peak: &'static str,
}

impl MemoryLimit {
    /// Makes a control group, version 2 or 1, if that is allowed here.
    pub fn new() -> Self {
        let name = format!("shakti-peers-{}", std::process::id());
        let versions = [
            ("/sys/fs/cgroup", "cgroup.controllers", "memory.max", "memory.peak"),
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            ),
        ];
        let made = versions.into_iter().find_map(|(root, sign, limit, peak)| {
            let root = PathBuf::from(root);
            let group = Group { folder: root.join(&name), peak };
            root.join(sign).exists().then_some(())?;
            fs::create_dir(&group.folder).ok()?;
            // A group that exists but cannot be limited is removed again.
            fs::write(group.folder.join(limit), LIMIT.to_string()).ok()?;
            Some(group)
        });
        Self { group: made }
    }

    /// The limit in words.
    pub fn how(&self) -> &'static str {
        match self.group {
            Some(_) => "limit: a control group of 10^9 bytes, page cache counted, that ends who takes more",
            None => "limit: 10^9 bytes of address space (ulimit -v), mapped files counted",
        }
    }

    /// The same program inside the limit.
    pub fn wrap(&self, program: &Program) -> Program {
        let script = match &self.group {
            Some(group) => format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.folder.display()),
            None => format!("ulimit -v {} && exec \"$@\"", LIMIT / 1024),
        };
        let mut wrapped = Program::new("/bin/sh".into(), "-c").arg(script).arg("limit").arg(&program.path);
        wrapped.arguments.extend(program.arguments.iter().cloned());
        wrapped
    }

    /// Most memory of the group since it was made or last asked, where it says so.
    pub fn peak(&self) -> Option<String> {
        let group = self.group.as_ref()?;
        let file = group.folder.join(group.peak);
        let bytes: f64 = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        // Version 1 starts anew when written to; the peak of version 2 stays, and then the text says more than one run.
        let starts_anew = fs::write(&file, "0").is_ok();
        let since = if starts_anew { "" } else { " so far" };
        Some(format!("at most {:.0} MB{since}", bytes / 1e6))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty once the last program has ended; if the system still holds it, an empty group does no harm.
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_program_beyond_the_limit_fails_and_a_small_one_runs() {
        let limit = MemoryLimit::new();
        let run = |bytes: &str| {
            let script = format!("head -c {bytes} /dev/zero | tail -c {bytes} | wc -c");
            limit.wrap(&Program::new("/bin/sh".into(), "-c").arg(script)).run(false)
        };
        assert_eq!(run("1000000").expect("a small program").output.trim(), "1000000");
        let large = run("1200000000").map(|outcome| outcome.output);
        assert!(
            large.as_ref().map_or(true, |text| text.trim() != "1200000000"),
            "{large:?}, {}",
            limit.how()
        );
    }
}
