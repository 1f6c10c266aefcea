//! One run, from nothing to a verdict.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tablecast::archive::{ListFilter, Purpose, Reader, StoreConfig};
use tablecast::domain::{Identity, TableId};
use tablecast::gateway::Tokens;
use tablecast::runtime::clock::Clock;
use tablecast::runtime::config::from_args;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::checker::history::Notebook;
use crate::checker::log::{Log, Stored, What};
use crate::checker::{self, Evidence, Findings, Violation};
use crate::cluster::Cluster;
use crate::evidence;
use crate::fleet::{Fleet, Role, SECRET};
use crate::measure::{Measured, measure};
use crate::nemesis::{Act, Deed, Nemesis};
use crate::notes::{Cursors, now_ms};
use crate::options::{Class, Options};
use crate::player::{Part, Placed, Player, Shared};
use crate::process::{Process, tablecast};
use crate::recorder::{Tape, read_all, record};
use crate::scripts;
use crate::spectator::Spectator;

/// How long everybody has to be shown what the log holds, and the archiver to take what is over.
const FOLLOW_WAIT: Duration = Duration::from_secs(15);
const ARCHIVE_WAIT: Duration = Duration::from_secs(40);
/// Tables that one spectator follows.
const TABLES_PER_SPECTATOR: usize = 8;
/// Between the openings of two tables, at the start.
const STAGGER: Duration = Duration::from_millis(25);

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    pub(crate) measured: Measured,
    pub(crate) deeds: Vec<Deed>,
}

/// Runs, and checks.
pub(crate) async fn run(options: &Options, seed: u64, directory: &Path) -> anyhow::Result<Outcome> {
    let mut cluster = Cluster::start(options.nodes, options.class(), directory).await?;
    provision(&cluster, options.class(), directory).await?;
    // One for each server, and one tape: what one misses while its server hangs, the others see.
    let (tape, recording) = (&Tape::default(), CancellationToken::new());
    let mut recorders = JoinSet::new();
    for node in 0..options.nodes {
        recorders.spawn(record(cluster.client_of(node).await?, tape.clone(), recording.clone()));
    }
    let mut fleet = fleet(options, &cluster, directory).await?;
    let mut crowd = Crowd::gather(options, seed, &fleet);
    // Time for the first tables to be opened.
    sleep(Duration::from_secs(2) + STAGGER * u32::try_from(options.tables)?).await;

    let mut nemesis = Nemesis::new(dice(seed, 0), options);
    nemesis.run(options, &mut cluster, &mut fleet).await?;

    let mut violations = Vec::new();
    let (mut reached, mut due_ms) = (HashMap::new(), 0);
    if options.planted.is_none() {
        violations.extend(crowd.progress(tape, options.settle).await);
        crowd.shared.closing.cancel();
        due_ms = now_ms();
        reached = tape.with(lengths);
        crowd.follow(&reached).await;
        wait_for_archive(tape, due_ms).await;
    }
    let notebooks = crowd.go_home().await?;
    let client = cluster.client().await?;
    let last = read_all(&client).await.context("the stream cannot be read at the end")?;
    recording.cancel();
    recorders.join_all().await;
    let (stored, lost) = merged(tape, &last);
    violations.extend(lost);
    // A burial that was tried again takes the place of the first one, perhaps before anybody read that. A
    // commit that nobody read would break the numbering of its table, or differ from the archive.
    let end = stored.last().map_or(0, |last| last.stream_seq);
    let unseen = end - u64::try_from(stored.len())?;
    let log = Log::of(&stored);
    let archive = archive(&fleet.store()).await?;
    let measured = measure(&log, &notebooks, &nemesis.deeds);
    let deaths = deaths(&nemesis.deeds);
    let evidence = Evidence { log, notebooks, archive, reached, due_ms, deaths };
    let mut findings = checker::check(&evidence, &scripts::catalog());
    findings.violations.extend(violations);
    findings.count("messages that no recorder saw", unseen);
    let orphans = crowd.orphans(&evidence);
    findings.count("openings whose answer was lost", orphans);
    if !findings.violations.is_empty() {
        evidence::write(&evidence, &findings.violations, &nemesis.deeds, directory)?;
    }
    Ok(Outcome { findings, measured, deeds: nemesis.deeds })
}

/// Chance for one of many, so that one more does not change the others.
fn dice(seed: u64, stream: u64) -> ChaCha20Rng {
    let mut dice = ChaCha20Rng::seed_from_u64(seed);
    dice.set_stream(stream);
    dice
}

/// Creates the streams before any role can look for them.
async fn provision(cluster: &Cluster, class: Class, directory: &Path) -> anyhow::Result<()> {
    let urls = cluster.urls().join(",");
    let args = ["streams", "--nats-url", &urls, "--durability", class.name(), "apply"];
    let args: Vec<String> = args.map(str::to_owned).into();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let log = directory.join("streams.log");
        let mut process = Process::start(&tablecast(), &args, &log)?;
        if process.exit(Duration::from_secs(30)).await == Some(0) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the streams cannot be created: see {}", log.display());
        sleep(Duration::from_millis(300)).await;
    }
}

async fn fleet(options: &Options, cluster: &Cluster, directory: &Path) -> anyhow::Result<Fleet> {
    let counts =
        [(Role::Worker, options.workers), (Role::Gateway, options.gateways), (Role::Archiver, 1)];
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| node.client).collect();
    let (fault, class) = (options.planted, options.class());
    let mut fleet = Fleet::new(counts, &nodes, (fault, class), directory).await?;
    for at in 0..fleet.members.len() {
        fleet.start(at)?;
    }
    fleet.wait_for_gateways(Duration::from_secs(30)).await?;
    Ok(fleet)
}

/// All players and spectators.
struct Crowd {
    shared: Shared,
    places: Vec<watch::Receiver<Option<Placed>>>,
    tasks: JoinSet<Notebook>,
}

impl Crowd {
    fn gather(options: &Options, seed: u64, fleet: &Fleet) -> Self {
        let shared = Shared {
            gateways: fleet.gateways.clone(),
            cursors: Cursors::default(),
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let mut crowd = Self { shared, places: Vec::new(), tasks: JoinSet::new() };
        let kinds = scripts::all();
        let mut stream = 1..;
        let mut chance = || dice(seed, stream.next().unwrap_or_default());
        for number in 0..options.tables {
            let script = kinds[number % kinds.len()];
            let (offer, offered) = watch::channel(None);
            let parts = [("host", Part::Host(offer)), ("guest", Part::Guest(offered.clone()))];
            for (what, part) in parts {
                let name = format!("{what}-{number}");
                let (token, shared) = (token(&name), crowd.shared.clone());
                let player = Player { name, token, script, dice: chance(), part, shared };
                let wait = STAGGER * u32::try_from(number).unwrap_or_default();
                crowd.tasks.spawn(async move {
                    sleep(wait).await;
                    player.run().await
                });
            }
            crowd.places.push(offered);
        }
        for (number, places) in crowd.places.chunks(TABLES_PER_SPECTATOR).enumerate() {
            let (name, places) = (format!("spectator-{number}"), places.to_vec());
            let spectator =
                Spectator { name, places, dice: chance(), shared: crowd.shared.clone() };
            crowd.tasks.spawn(spectator.run());
        }
        crowd
    }

    /// Waits until every table that is played has gone on: those that do not are stuck.
    async fn progress(&self, tape: &Tape, patience: Duration) -> Vec<Violation> {
        let from = tape.with(|stored| stored.last().map_or(0, |last| last.stream_seq));
        let placed = self.places.iter().filter_map(|place| *place.borrow());
        let mut waiting: BTreeSet<TableId> = placed.map(|placed| placed.table).collect();
        // Its host may not have left it yet.
        let has_ended = |stored: &&Stored| stored.types.contains("table.completed");
        tape.with(|stored| {
            for ended in stored.iter().filter(has_ended) {
                waiting.remove(&ended.table);
            }
        });
        let deadline = Instant::now() + patience;
        while !waiting.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(100)).await;
            tape.with(|stored| {
                let after = stored.partition_point(|stored| stored.stream_seq <= from);
                for stored in stored.iter().skip(after).filter(|stored| is_progress(stored)) {
                    waiting.remove(&stored.table);
                }
            });
        }
        let stuck = |table| Violation {
            promise: "every table goes on once nothing is broken any more",
            table: Some(table),
            what: format!("nothing happened at it for {patience:?}"),
        };
        waiting.into_iter().map(stuck).collect()
    }

    /// Waits until everybody has been shown what the log holds; who has not is found by the checker.
    async fn follow(&self, reached: &HashMap<TableId, u64>) {
        let deadline = Instant::now() + FOLLOW_WAIT;
        while !self.shared.cursors.behind(reached).is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn go_home(&mut self) -> anyhow::Result<Vec<Notebook>> {
        self.shared.stop.cancel();
        let mut notebooks = Vec::new();
        while let Some(notebook) = self.tasks.join_next().await {
            notebooks.push(notebook.context("a client of the test panicked")?);
        }
        Ok(notebooks)
    }

    /// Tables that nobody knows of: the answer to their opening was lost.
    fn orphans(&self, evidence: &Evidence) -> u64 {
        let known: BTreeSet<&TableId> =
            evidence.notebooks.iter().flat_map(|notebook| notebook.histories.keys()).collect();
        let unknown = evidence.log.tables.keys().filter(|table| !known.contains(table));
        u64::try_from(unknown.count()).unwrap_or(u64::MAX)
    }
}

fn token(name: &str) -> String {
    let secret = SECRET.parse().expect("it is long enough");
    let player = name.parse().expect("a player's id");
    let identity = Identity { player, name: name.to_owned() };
    Tokens::new(&secret).issue(&identity, Clock::System.now(), Duration::from_secs(86_400)).0
}

/// Whether the game itself went on, or ended.
fn is_progress(stored: &Stored) -> bool {
    stored.what == What::Commit
        && stored.types.split([',', ' ']).any(|name| {
            !name.is_empty() && (!name.starts_with("table.") || name == "table.completed")
        })
}

/// How many commits each table has.
fn lengths(stored: &[Stored]) -> HashMap<TableId, u64> {
    let mut lengths = HashMap::new();
    for stored in stored.iter().filter(|stored| stored.what == What::Commit) {
        *lengths.entry(stored.table).or_default() += 1;
    }
    lengths
}

/// Waits until the archiver has buried what ended before a moment; what it has not is found by the checker.
async fn wait_for_archive(tape: &Tape, due_ms: u64) {
    let deadline = Instant::now() + ARCHIVE_WAIT;
    let mut waits = true;
    while waits && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
        waits = tape.with(|stored| {
            let mut ended: BTreeSet<TableId> = BTreeSet::new();
            for stored in stored {
                let ends = stored.types.contains("table.completed") && stored.stored_ms < due_ms;
                if stored.what == What::Tombstone {
                    ended.remove(&stored.table);
                } else if stored.what == What::Commit && ends {
                    ended.insert(stored.table);
                }
            }
            !ended.is_empty()
        });
    }
}

/// What was recorded and what is still there, as one; and what was there once and should be still.
fn merged(tape: &Tape, last: &Tape) -> (Vec<Stored>, Vec<Violation>) {
    let of = |tape: &Tape| {
        tape.with(|stored| {
            let numbered = stored.iter().map(|stored| (stored.stream_seq, stored.clone()));
            numbered.collect::<BTreeMap<u64, Stored>>()
        })
    };
    let (mut all, last) = (of(tape), of(last));
    let end = last.keys().next_back().copied().unwrap_or_default();
    let gone: BTreeSet<TableId> = all
        .values()
        .chain(last.values())
        .filter(|stored| matches!(stored.what, What::Tombstone | What::MarkerGone))
        .map(|stored| stored.table)
        .collect();
    let is_lost = |stored: &&Stored| {
        let is_there = last.get(&stored.stream_seq);
        stored.stream_seq <= end
            && is_there.is_none_or(|there| there.payload != stored.payload)
            && !gone.contains(&stored.table)
    };
    let lost = all.values().filter(is_lost).map(|stored| Violation {
        promise: "what is stored stays stored",
        table: Some(stored.table),
        what: format!("message {} is not what it was", stored.stream_seq),
    });
    let lost = lost.collect();
    for (seq, stored) in last {
        all.entry(seq).or_insert(stored);
    }
    (all.into_values().collect(), lost)
}

/// When each worker that was killed died.
fn deaths(deeds: &[Deed]) -> HashMap<String, u64> {
    let kills = deeds.iter().filter(|deed| deed.act == Act::WorkerKill);
    kills.map(|deed| (deed.target.clone(), deed.at_ms)).collect()
}

/// All rows, with their events.
async fn archive(
    store: &Path,
) -> anyhow::Result<HashMap<TableId, Vec<tablecast::protocol::archive::ArchivedTable>>> {
    if !store.exists() {
        return Ok(HashMap::new());
    }
    let store: StoreConfig = from_args(&["--store", &store.display().to_string()])?;
    let reader = Reader::new(store.open(Purpose::Read)?);
    let listed = reader.ls(&ListFilter::default(), usize::MAX).await?;
    let mut rows = Vec::new();
    for row in listed {
        rows.extend(reader.get(row.table_id).await?);
    }
    Ok(checker::archive::by_table(rows))
}
