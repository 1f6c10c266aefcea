//! The roles as processes: started, killed, stopped, drained, cut off, and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::task::JoinSet;

use crate::options::Class;
use crate::planted::{Fault, PLANTED_WORKER};
use crate::process::{Process, Signal, tablecast};
use crate::proxy::{Line, Proxy};

/// All gateways share it.
pub(crate) const SECRET: &str = "chaos-chaos-chaos-chaos-chaos-chaos";

/// How old a batch of games gets before it is archived, and the log's copy of them buried. The recorder must
/// have seen them by then.
const BATCH_AGE: &str = "10s";

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Gateway,
    Archiver,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Gateway => "gateway",
            Self::Archiver => "archiver",
        }
    }
}

/// Where gateways listen at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gateways(Arc<Mutex<Vec<(usize, SocketAddr)>>>);

impl Gateways {
    pub(crate) fn all(&self) -> Vec<(usize, SocketAddr)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, index: usize, address: Option<SocketAddr>) {
        let mut gateways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.retain(|(other, _)| *other != index);
        gateways.extend(address.map(|address| (index, address)));
    }
}

/// One place for a process, with lines of its own to every NATS server.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) index: usize,
    generation: u32,
    process: Option<Process>,
    lines: Vec<Proxy>,
}

/// All processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    pub(crate) gateways: Gateways,
    directory: PathBuf,
    class: Class,
    fault: Option<Fault>,
    /// Reads what processes print, so that none waits for a full pipe.
    readers: JoinSet<()>,
}

impl Fleet {
    /// Starts nothing yet.
    pub(crate) async fn new(
        counts: [(Role, usize); 3],
        nodes: &[SocketAddr],
        (fault, class): (Option<Fault>, Class),
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for (role, count) in counts {
            for index in 0..count {
                let mut lines = Vec::new();
                for node in nodes {
                    lines.push(Proxy::to(*node).await?);
                }
                members.push(Member { role, index, generation: 0, process: None, lines });
            }
        }
        Ok(Self {
            members,
            gateways: Gateways::default(),
            directory: directory.to_owned(),
            class,
            fault,
            readers: JoinSet::new(),
        })
    }

    /// Where the archive is.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.join("archive")
    }

    /// The name of the process that is in a place, as the log and its file have it.
    pub(crate) fn name(&self, at: usize) -> String {
        let Member { role, index, generation, .. } = &self.members[at];
        format!("{}{index}-{generation}", role.name())
    }

    pub(crate) fn start(&mut self, at: usize) -> anyhow::Result<()> {
        self.members[at].generation += 1;
        let name = self.name(at);
        let member = &self.members[at];
        let urls: Vec<String> =
            member.lines.iter().map(|line| format!("nats://{}", line.address)).collect();
        let mut program = tablecast();
        let mut args: Vec<String> = Vec::new();
        let mut add = |more: &[&str]| args.extend(more.iter().map(|&arg| arg.to_owned()));
        match (member.role, self.fault) {
            (Role::Worker, None) => add(&["worker", "--worker-id", &name]),
            (Role::Worker, Some(fault)) => {
                program = std::env::current_exe()?;
                add(&[PLANTED_WORKER, fault.name(), "--worker-id", &name]);
            }
            (Role::Gateway, _) => add(&["gateway", "--port", "0", "--token-secret", SECRET]),
            (Role::Archiver, _) => {
                let store = self.directory.join("archive").display().to_string();
                add(&[
                    "archiver",
                    "--store",
                    &store,
                    "--batch-age",
                    BATCH_AGE,
                    "--backoff-max",
                    "2s",
                ]);
            }
        }
        add(&["--nats-url", &urls.join(","), "--durability", self.class.name()]);
        add(&["--nats-wait", "120s"]);
        let log = self.directory.join(format!("{name}.log"));
        let mut process = Process::start(&program, &args, &log)?;
        let stdout = process.take_stdout().context("its output is ours")?;
        let lines = BufReader::new(stdout).lines();
        let gateway = (member.role == Role::Gateway).then_some(member.index);
        self.readers.spawn(read(lines, self.gateways.clone(), gateway));
        self.members[at].process = Some(process);
        Ok(())
    }

    pub(crate) async fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        self.forget_gateway(at);
        if let Some(mut process) = self.members[at].process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    pub(crate) async fn signal(&mut self, at: usize, signal: Signal) -> anyhow::Result<()> {
        match &self.members[at].process {
            Some(process) => process.signal(signal).await,
            None => Ok(()),
        }
    }

    /// Asks a process to stop and hands it over: its end may take a while.
    pub(crate) async fn drain(&mut self, at: usize) -> anyhow::Result<Option<Process>> {
        self.forget_gateway(at);
        let process = self.members[at].process.take();
        if let Some(process) = &process {
            process.signal(Signal::Terminate).await?;
        }
        Ok(process)
    }

    /// Does something to all lines of a process.
    pub(crate) fn set_lines(&self, at: usize, line: Line) {
        for proxy in &self.members[at].lines {
            proxy.set(line);
        }
    }

    /// A process that ended by itself, which none may.
    pub(crate) fn ended_by_itself(&mut self) -> Option<String> {
        let has_ended =
            |member: &mut Member| member.process.as_mut().is_some_and(Process::has_ended);
        let at = self.members.iter_mut().position(has_ended)?;
        Some(self.name(at))
    }

    /// Waits until every gateway says where it listens.
    pub(crate) async fn wait_for_gateways(&self, patience: Duration) -> anyhow::Result<()> {
        let wanted = self.members.iter().filter(|member| member.role == Role::Gateway).count();
        let all = async {
            while self.gateways.all().len() < wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(patience, all).await.context("a gateway does not start")
    }

    /// Clients do not try a gateway that they have been told is gone.
    fn forget_gateway(&self, at: usize) {
        let member = &self.members[at];
        if member.role == Role::Gateway {
            self.gateways.set(member.index, None);
        }
    }
}

/// Reads what a process prints to its end. A gateway prints where it listens.
async fn read(
    mut lines: Lines<BufReader<ChildStdout>>,
    gateways: Gateways,
    gateway: Option<usize>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(index) = gateway
            && let Some(address) = line.strip_prefix("page: http://")
            && let Ok(address) = address.trim_end_matches('/').parse()
        {
            gateways.set(index, Some(address));
        }
    }
}
