//! A process of ours, its log file, and the signals that it is sent.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Stop,
    Continue,
    Terminate,
}

impl Signal {
    fn flag(self) -> &'static str {
        match self {
            Self::Stop => "-STOP",
            Self::Continue => "-CONT",
            Self::Terminate => "-TERM",
        }
    }
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: Option<ChildStdout>,
}

impl Process {
    /// Starts a program whose log goes to the end of a file.
    pub(crate) fn start(program: &Path, args: &[String], log: &Path) -> anyhow::Result<Self> {
        Self::start_in(program, args, &[], log)
    }

    /// Starts a program with more variables in its environment.
    pub(crate) fn start_in(
        program: &Path,
        args: &[String],
        variables: &[(&str, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(appending(log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        let stdout = child.stdout.take();
        Ok(Self { child, stdout })
    }

    /// What it prints, once.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Sends a signal to a process that is there.
    pub(crate) async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().context("the process is gone already")?.to_string();
        let sent = Command::new("kill").args([signal.flag(), &pid]).status().await?;
        ensure!(sent.success(), "kill {} {pid} failed", signal.flag());
        Ok(())
    }

    /// Ends it with SIGKILL, stopped or not.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("our own child can be killed")
    }

    /// Its exit code, if it ends in time.
    pub(crate) async fn exit(&mut self, patience: Duration) -> Option<i32> {
        let status = timeout(patience, self.child.wait()).await.ok()?.ok()?;
        Some(status.code().unwrap_or(-1))
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

fn appending(log: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.with_context(|| format!("cannot write {}", log.display()))
}

/// The binary under test.
pub(crate) fn tablecast() -> PathBuf {
    env!("CARGO_BIN_EXE_tablecast").into()
}
