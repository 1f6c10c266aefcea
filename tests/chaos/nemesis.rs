//! Breaks things at random, by the seed, and mends them again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Cluster;
use crate::fleet::{Fleet, Role};
use crate::notes::now_ms;
use crate::options::Options;
use crate::process::{Process, Signal};
use crate::proxy::Line;

/// A process that was asked to stop has this long.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// A cluster that lost a server has this long to be whole again.
const HEALTHY_WAIT: Duration = Duration::from_secs(60);

/// What can be done to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Act {
    WorkerKill,
    WorkerStop,
    WorkerDrain,
    WorkerCut,
    WorkerStall,
    GatewayKill,
    GatewayStop,
    GatewayDrain,
    GatewayCut,
    GatewayStall,
    ArchiverKill,
    NodeKill,
    LeaderKill,
    NodeStop,
    LeaderDrain,
}

/// How often each of them is in the bag that acts are drawn from.
const BAG: [(Act, usize); 15] = [
    (Act::WorkerKill, 14),
    (Act::WorkerStop, 2),
    (Act::WorkerDrain, 2),
    (Act::WorkerCut, 1),
    (Act::WorkerStall, 1),
    (Act::GatewayKill, 2),
    (Act::GatewayStop, 1),
    (Act::GatewayDrain, 1),
    (Act::GatewayCut, 1),
    (Act::GatewayStall, 1),
    (Act::ArchiverKill, 1),
    (Act::NodeKill, 1),
    (Act::LeaderKill, 1),
    (Act::NodeStop, 1),
    (Act::LeaderDrain, 1),
];

/// Something that was done.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) act: Act,
    /// The process, by the name it has in the log.
    pub(crate) target: String,
    /// When it was done, and when it was undone, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) until_ms: u64,
}

impl Act {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().expect("no act is hidden").get_name().to_owned()
    }

    /// Whether it is done to a server of NATS: then it concerns every table.
    pub(crate) fn is_of_nats(self) -> bool {
        matches!(self, Self::NodeKill | Self::LeaderKill | Self::NodeStop | Self::LeaderDrain)
    }

    fn role(self) -> Option<Role> {
        Some(match self {
            Self::WorkerKill
            | Self::WorkerStop
            | Self::WorkerDrain
            | Self::WorkerCut
            | Self::WorkerStall => Role::Worker,
            Self::GatewayKill
            | Self::GatewayStop
            | Self::GatewayDrain
            | Self::GatewayCut
            | Self::GatewayStall => Role::Gateway,
            Self::ArchiverKill => Role::Archiver,
            Self::NodeKill | Self::LeaderKill | Self::NodeStop | Self::LeaderDrain => return None,
        })
    }

    /// For how long, in milliseconds: long enough that others take over, and sometimes not.
    fn lasts_ms(self) -> std::ops::Range<u64> {
        match self {
            Self::WorkerKill | Self::GatewayKill | Self::ArchiverKill => 200..2_500,
            Self::WorkerDrain | Self::GatewayDrain => 200..1_000,
            Self::WorkerStop | Self::GatewayStop => 1_000..7_000,
            Self::WorkerCut | Self::WorkerStall | Self::GatewayCut | Self::GatewayStall => {
                1_000..6_000
            }
            Self::NodeKill | Self::LeaderKill | Self::LeaderDrain => 500..4_000,
            Self::NodeStop => 1_000..6_000,
        }
    }
}

/// What has to be undone.
enum Undo {
    Start(usize),
    Continue(usize),
    Heal(usize),
    /// It was asked to stop: it must have, before it is started again.
    Ended(usize, Box<Process>),
    StartNode(usize),
    ContinueNode(usize),
}

/// Whoever breaks things.
pub(crate) struct Nemesis {
    pub(crate) deeds: Vec<Deed>,
    pub(crate) worker_kills: u64,
    dice: ChaCha20Rng,
    acts: Vec<Act>,
    bag: Vec<Act>,
    undo: Vec<(Instant, usize, Undo)>,
    broken: BTreeSet<usize>,
    /// A server that is down, or has not caught up.
    node: bool,
}

impl Nemesis {
    pub(crate) fn new(dice: ChaCha20Rng, options: &Options) -> Self {
        let is_wanted = |act: Act| options.only.is_empty() || options.only.contains(&act);
        let is_possible = |act: Act| options.nodes > 1 || !act.is_of_nats();
        let acts = BAG
            .into_iter()
            .filter(|(act, _)| is_wanted(*act) && is_possible(*act))
            .flat_map(|(act, times)| std::iter::repeat_n(act, times));
        Self {
            deeds: Vec::new(),
            worker_kills: 0,
            dice,
            acts: acts.collect(),
            bag: Vec::new(),
            undo: Vec::new(),
            broken: BTreeSet::new(),
            node: false,
        }
    }

    /// Breaks and mends until time is up, or enough workers have been killed; then mends everything.
    pub(crate) async fn run(
        &mut self,
        options: &Options,
        cluster: &mut Cluster,
        fleet: &mut Fleet,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + options.duration;
        let pause = Duration::from_secs(60).div_f64(options.acts_per_minute.max(0.1));
        let mut next = Instant::now() + pause.mul_f64(self.dice.random_range(0.2..1.0));
        while match options.until_kills {
            Some(kills) => self.worker_kills < kills,
            None => Instant::now() < end,
        } {
            let due = self.undo.iter().map(|(at, _, _)| *at).min();
            let limit = end.max(Instant::now() + Duration::from_millis(1));
            let wake = due.into_iter().chain([next, limit]).min().unwrap_or(next);
            sleep_until(wake).await;
            self.undo_due(cluster, fleet).await?;
            if Instant::now() >= next {
                next = Instant::now() + pause.mul_f64(self.dice.random_range(0.4..1.6));
                if self.acts.is_empty() {
                    continue;
                }
                if self.node && self.undo.iter().all(|(_, _, undo)| !undo.is_of_node()) {
                    self.node = !cluster.is_healthy().await;
                }
                let act = self.draw();
                self.act(act, cluster, fleet).await?;
            }
        }
        self.mend(cluster, fleet).await
    }

    /// The next act, out of a bag that is filled again once it is empty, so that none is forgotten.
    fn draw(&mut self) -> Act {
        if self.bag.is_empty() {
            self.bag = self.acts.clone();
            self.bag.shuffle(&mut self.dice);
        }
        self.bag.pop().expect("just filled")
    }

    async fn act(
        &mut self,
        act: Act,
        cluster: &mut Cluster,
        fleet: &mut Fleet,
    ) -> anyhow::Result<()> {
        let wait = Duration::from_millis(self.dice.random_range(act.lasts_ms()));
        let until = Instant::now() + wait;
        let at_ms = now_ms();
        let (target, undo) = match act.role() {
            Some(role) => {
                let Some(at) = self.pick(role, fleet) else { return Ok(()) };
                let name = fleet.name(at);
                let undo = Self::act_on_member(act, at, fleet).await?;
                self.broken.insert(at);
                (name, undo)
            }
            None => {
                if std::mem::replace(&mut self.node, true) {
                    return Ok(());
                }
                let any = self.dice.random_range(0..cluster.nodes.len());
                let leader = cluster.leader().await;
                let is_for_leader = matches!(act, Act::LeaderKill | Act::LeaderDrain);
                let index = leader.filter(|_| is_for_leader).unwrap_or(any);
                let undo = Self::act_on_node(act, index, cluster).await?;
                (cluster.nodes[index].name.clone(), undo)
            }
        };
        self.worker_kills += u64::from(act == Act::WorkerKill);
        self.undo.push((until, self.deeds.len(), undo));
        self.deeds.push(Deed { act, target, at_ms, until_ms: u64::MAX });
        Ok(())
    }

    /// One that is whole, as long as another of its role is, unless it is the only one there is.
    fn pick(&mut self, role: Role, fleet: &Fleet) -> Option<usize> {
        let all = fleet.members.iter().enumerate().filter(|(_, member)| member.role == role);
        let all: Vec<usize> = all.map(|(at, _)| at).collect();
        let whole: Vec<usize> =
            all.iter().copied().filter(|at| !self.broken.contains(at)).collect();
        if whole.is_empty() || (whole.len() == 1 && all.len() > 1) {
            return None;
        }
        Some(whole[self.dice.random_range(0..whole.len())])
    }

    async fn act_on_member(act: Act, at: usize, fleet: &mut Fleet) -> anyhow::Result<Undo> {
        Ok(match act {
            Act::WorkerStop | Act::GatewayStop => {
                fleet.signal(at, Signal::Stop).await?;
                Undo::Continue(at)
            }
            Act::WorkerDrain | Act::GatewayDrain => match fleet.drain(at).await? {
                Some(process) => Undo::Ended(at, Box::new(process)),
                None => Undo::Start(at),
            },
            Act::WorkerCut | Act::GatewayCut => {
                fleet.set_lines(at, Line::Cut);
                Undo::Heal(at)
            }
            Act::WorkerStall | Act::GatewayStall => {
                fleet.set_lines(at, Line::Stalled);
                Undo::Heal(at)
            }
            Act::WorkerKill
            | Act::GatewayKill
            | Act::ArchiverKill
            | Act::NodeKill
            | Act::LeaderKill
            | Act::NodeStop
            | Act::LeaderDrain => {
                fleet.kill(at).await?;
                Undo::Start(at)
            }
        })
    }

    async fn act_on_node(act: Act, index: usize, cluster: &mut Cluster) -> anyhow::Result<Undo> {
        if act == Act::NodeStop {
            cluster.signal(index, Signal::Stop).await?;
            return Ok(Undo::ContinueNode(index));
        }
        if act == Act::LeaderDrain {
            cluster.stop(index).await?;
        } else {
            cluster.kill(index).await?;
        }
        Ok(Undo::StartNode(index))
    }

    async fn undo_due(&mut self, cluster: &mut Cluster, fleet: &mut Fleet) -> anyhow::Result<()> {
        let now = Instant::now();
        while let Some(index) = self.undo.iter().position(|(at, _, _)| *at <= now) {
            let (_, deed, undo) = self.undo.swap_remove(index);
            self.undo(undo, cluster, fleet).await?;
            self.deeds[deed].until_ms = now_ms();
        }
        ensure_none_ended(fleet)
    }

    async fn undo(
        &mut self,
        undo: Undo,
        cluster: &mut Cluster,
        fleet: &mut Fleet,
    ) -> anyhow::Result<()> {
        let at = match undo {
            Undo::Start(at) => {
                fleet.start(at)?;
                at
            }
            Undo::Continue(at) => {
                fleet.signal(at, Signal::Continue).await?;
                at
            }
            Undo::Heal(at) => {
                fleet.set_lines(at, Line::Open);
                at
            }
            Undo::Ended(at, mut process) => {
                let name = fleet.name(at);
                let code = process.exit(DRAIN_MAX).await;
                let code = code.with_context(|| format!("{name} does not stop on SIGTERM"))?;
                ensure!(code == 0, "{name} was asked to stop, and ended with {code}");
                fleet.start(at)?;
                at
            }
            Undo::StartNode(index) => return cluster.spawn(index),
            Undo::ContinueNode(index) => return cluster.signal(index, Signal::Continue).await,
        };
        self.broken.remove(&at);
        Ok(())
    }

    /// Mends everything at once, and waits for the cluster.
    async fn mend(&mut self, cluster: &mut Cluster, fleet: &mut Fleet) -> anyhow::Result<()> {
        for (_, deed, undo) in std::mem::take(&mut self.undo) {
            self.undo(undo, cluster, fleet).await?;
            self.deeds[deed].until_ms = now_ms();
        }
        let deadline = Instant::now() + HEALTHY_WAIT;
        while !cluster.is_healthy().await {
            ensure!(Instant::now() < deadline, "the NATS cluster does not become whole again");
            sleep(Duration::from_millis(200)).await;
        }
        ensure_none_ended(fleet)?;
        fleet.wait_for_gateways(HEALTHY_WAIT).await
    }
}

impl Undo {
    fn is_of_node(&self) -> bool {
        matches!(self, Self::StartNode(_) | Self::ContinueNode(_))
    }
}

/// Whatever is done to the others, no process ends by itself.
fn ensure_none_ended(fleet: &mut Fleet) -> anyhow::Result<()> {
    match fleet.ended_by_itself() {
        Some(name) => anyhow::bail!("{name} ended by itself: see its log"),
        None => Ok(()),
    }
}
