//! The simulated system as a whole: its network, its processes, its clients, and what is written down about them.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use object_store::memory::InMemory;
use rand::RngExt;
use tablecast::bus::Bus;
use tablecast::bus::memory::Network;
use tablecast::catalog::Catalog;
use tablecast::domain::{TableId, Timestamp};
use tablecast::runtime::clock::Clock;
use tablecast::runtime::process::Process;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chance::dice;
use crate::checker::history::{Line, Notebook, Seen};
use crate::door::Door;
use crate::node::{Node, Role};
use crate::pebbles::Pebbles;
use crate::plan::Plan;
use crate::tape::Tape;
use crate::trace::Trace;
use crate::{nemesis, player, scripts};

const EPOCH: Timestamp = Timestamp::from_millis(1_795_391_970_000);

/// How long everything may take once nothing is broken any more: alarms ring some twenty seconds late.
const PATIENCE: Duration = Duration::from_secs(180);

/// Shared by everything in a simulation.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) epoch: Timestamp,
    pub(crate) clock: Clock,
    pub(crate) network: Arc<Network>,
    pub(crate) trace: Trace,
    pub(crate) catalog: Catalog,
    pub(crate) store: Arc<InMemory>,
    pub(crate) tasks: TaskTracker,
    pub(crate) tape: Tape,
    /// For those who are in no process: clients and the observer.
    pub(crate) observer: Bus,
    pub(crate) over: CancellationToken,
    pub(crate) open_doors: Mutex<BTreeMap<String, Arc<Door>>>,
    /// By client.
    pub(crate) notebooks: Mutex<BTreeMap<String, Notebook>>,
    pub(crate) deaths: Mutex<BTreeMap<String, u64>>,
    /// When each process began, by the log's clock.
    pub(crate) started: Mutex<BTreeMap<String, u64>>,
    /// When each process was killed, stopped or cut off, by the log's clock.
    pub(crate) troubles: Mutex<BTreeMap<String, Vec<u64>>>,
    workers: OnceLock<Vec<Node>>,
    doors: OnceLock<Vec<Node>>,
    archiver: OnceLock<Node>,
}

impl Deref for World {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let clock = Clock::simulated(EPOCH);
        let mut dice = dice(seed, "world");
        let shards = NonZeroU16::new(dice.random_range(1..3)).expect("not zero");
        let network = Network::new(shards, clock);
        let (observer, _) = network.connect();
        let world = Self(Arc::new(Inner {
            seed,
            epoch: EPOCH,
            clock,
            trace: Trace::new(clock),
            catalog: catalog(),
            store: Arc::new(InMemory::new()),
            tasks: TaskTracker::new(),
            tape: Tape::default(),
            observer,
            over: CancellationToken::new(),
            open_doors: Mutex::default(),
            notebooks: Mutex::default(),
            deaths: Mutex::default(),
            troubles: Mutex::default(),
            started: Mutex::default(),
            workers: OnceLock::new(),
            doors: OnceLock::new(),
            archiver: OnceLock::new(),
            network,
            plan,
        }));
        let mut skew = || match world.plan.is_skewed {
            true => dice.random_range(0..=Node::SKEW_MAX_MS),
            false => 0,
        };
        let node = |role, name: &str, number: usize, skew| {
            Node::new(&world, role, &format!("{name}{number}"), skew)
        };
        let workers =
            (1..=world.plan.workers).map(|number| node(Role::Worker, "w", number, skew()));
        let workers: Vec<Node> = workers.collect();
        let doors = (1..=world.plan.doors).map(|number| node(Role::Door, "g", number, 0));
        let doors: Vec<Node> = doors.collect();
        world.workers.set(workers).expect("once");
        world.doors.set(doors).expect("once");
        world.archiver.set(node(Role::Archiver, "a", 1, 0)).expect("once");
        world
    }

    pub(crate) fn workers(&self) -> &[Node] {
        self.workers.get().expect("set at first")
    }

    pub(crate) fn doors(&self) -> &[Node] {
        self.doors.get().expect("set at first")
    }

    pub(crate) fn archiver(&self) -> &Node {
        self.archiver.get().expect("set at first")
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.workers().iter().chain(self.doors()).chain([self.archiver()])
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now().as_millis()
    }

    pub(crate) fn note_death(&self, name: &str) {
        self.deaths.lock().expect("unbroken").entry(name.to_owned()).or_insert(self.now_ms());
    }

    pub(crate) fn note_trouble(&self, name: &str) {
        self.troubles
            .lock()
            .expect("unbroken")
            .entry(name.to_owned())
            .or_default()
            .push(self.now_ms());
    }

    /// Writes down what a client saw.
    pub(crate) fn note(&self, client: &str, table: TableId, seen: Seen) {
        match &seen {
            Seen::Commit { frame, .. } | Seen::Snapshot { frame, .. } => {
                let frame = String::from_utf8_lossy(frame);
                self.trace.line(format_args!("{client} sees {frame}"));
            }
            Seen::Subscribing { .. }
            | Seen::Subscribed { .. }
            | Seen::Unsubscribed { .. }
            | Seen::Lost => self.trace.line(format_args!("{client} {seen:?}")),
        }
        let at_ms = self.now_ms();
        self.with_notebook(client, |notebook| {
            notebook.histories.entry(table).or_default().push(Line { at_ms, seen });
        });
    }

    pub(crate) fn with_notebook<T>(
        &self,
        client: &str,
        change: impl FnOnce(&mut Notebook) -> T,
    ) -> T {
        let mut notebooks = self.notebooks.lock().expect("unbroken");
        let notebook = notebooks
            .entry(client.to_owned())
            .or_insert_with(|| Notebook { client: client.to_owned(), ..Notebook::default() });
        change(notebook)
    }

    /// Spawns a part of a process.
    pub(crate) fn spawn_in(
        &self,
        process: &Process,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let process = process.clone();
        self.tasks.spawn(async move {
            process.run(future).await;
        });
    }

    /// Plays everything: at first all is well, then things break, then they are mended, and all must end.
    pub(crate) async fn play(&self) {
        self.tape.watch_markers(self);
        for node in self.nodes() {
            node.start(self);
        }
        sleep(Duration::from_millis(100)).await;
        for number in 0..self.plan.games.len() {
            player::seat(self, number);
        }
        nemesis::rage(self).await;
        nemesis::mend(self).await;
        self.trace.line("mended");
        let mut waited = Duration::ZERO;
        while !self.tape.is_all_archived() && waited < PATIENCE {
            sleep(Duration::from_millis(250)).await;
            waited += Duration::from_millis(250);
        }
        // Whoever is behind catches up.
        sleep(Duration::from_secs(3)).await;
        self.trace.line("over");
        self.over.cancel();
        for node in self.nodes() {
            node.life().process.kill();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The games of the binary and that of the tests.
pub(crate) fn catalog() -> Catalog {
    scripts::catalog().with::<Pebbles>()
}
