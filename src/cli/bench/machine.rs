//! The machine under a measurement: which core who runs on, what processes have used.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

/// Where things run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cores {
    /// The measured server on core 0, everything else on core 1.
    Pinned,
    /// Wherever the system puts them.
    Free,
}

/// What may be put on a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What is measured.
    Server,
    /// Everything else.
    Rest,
}

impl Cores {
    /// Puts the calling thread on its core. What it starts from then on begins there, too.
    pub(super) fn take(self, part: Part) -> anyhow::Result<()> {
        match (self, part) {
            (Self::Free, _) => Ok(()),
            (Self::Pinned, Part::Server) => pin(0),
            (Self::Pinned, Part::Rest) => pin(1),
        }
    }

    /// Does something that starts a process or a thread, which begins on that core.
    pub(super) fn on<T>(
        self,
        part: Part,
        start: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.take(part)?;
        let started = start();
        self.take(Part::Rest)?;
        started
    }
}

#[cfg(target_os = "linux")]
fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
        .with_context(|| format!("this machine has no core {core} for us: try --unpinned"))
}

#[cfg(not(target_os = "linux"))]
fn pin(_core: usize) -> anyhow::Result<()> {
    anyhow::bail!("cores can be chosen on Linux only: try --unpinned")
}

/// Allows as many open files as this process may have, for itself and for what it starts.
pub(super) fn allow_files(wanted: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let most = limit.maximum.unwrap_or(u64::MAX);
    anyhow::ensure!(
        wanted as u64 <= most,
        "{wanted} open files are needed, and {most} are allowed: see `ulimit -Hn`"
    );
    Ok(())
}

/// Processor time that a process has used, all its threads together.
pub(super) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .with_context(|| format!("process {pid} has ended, or this is not Linux"))?;
    let mut nanos = 0;
    for task in tasks {
        // A thread may have ended since.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        nanos += first_number(&text)?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Processor time that the calling thread has used.
pub(super) fn cpu_of_thread() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(first_number(&text)?))
}

/// Processor time that all processes of the machine have used, in hundredths of a second.
pub(super) fn busy_of_machine() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("Linux says it")?;
    let fields = line.split_whitespace().skip(1).map(str::parse);
    let fields: Vec<u64> = fields.collect::<Result<_, _>>()?;
    // User, nice, system; then idle and waiting; then interrupts and what the host took.
    let busy = fields.iter().take(3).chain(fields.iter().skip(5).take(3)).sum::<u64>();
    Ok(Duration::from_millis(busy * 10))
}

fn first_number(text: &str) -> anyhow::Result<u64> {
    let number = text.split_whitespace().next().context("Linux says a number")?;
    Ok(number.parse()?)
}

/// The resident set of a process, in bytes.
pub(super) fn resident_of(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.context("Linux says it")?.trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Cores, system and files, for the head of a report.
pub(super) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    format!("{cores} cores of {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
