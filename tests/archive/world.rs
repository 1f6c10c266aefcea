//! Games that are played, archivers that archive them, and what must be true in the end.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use futures_util::stream::BoxStream;
use object_store::ObjectStore;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::json;
use tablecast::archiver::{self, ArchiverConfig};
use tablecast::bus::{
    AppendError, Bus, EventLog, Lobby, LobbyChange, Mail, MailError, ReadError, Request,
    RequestError, Snapshots, Stored, Timers, Wake,
};
use tablecast::domain::{
    Cause, Closing, Commit, Kind, Lifecycle, Opening, Seat, Seating, StreamSeq, Summary,
    SummarySeat, TableEvent, TableId, TableOptions, TableSeq, Timestamp,
};
use tablecast::protocol::envelope::{Envelope, Marker, Message, VERSION};
use tablecast::protocol::frame::LobbyEntry;
use tablecast::protocol::subject::Address;
use tablecast::runtime::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::faults::{Faults, FaultyLog, FaultyStore};
use crate::log::TestLog;
use crate::objects;

/// Half a minute before midnight, so that histories of a minute have two dates.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_391_970_000);

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    archiver: ArchiverConfig,
}

/// The archiver's defaults with small batches, and waits that depend on the seed only.
pub(crate) fn config(batch_tables: usize, seed: u64) -> ArchiverConfig {
    let mut config = Options::parse_from(["test"]).archiver;
    config.batch_tables = batch_tables.try_into().expect("at least one");
    config.batch_age = Duration::from_secs(5);
    config.tombstone_ttl = Duration::from_secs(20);
    config.backoff_max = Duration::from_secs(4);
    config.jitter_seed = seed;
    config
}

/// A log, the store behind all faults, and the clock of both.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) log: Arc<TestLog>,
    pub(crate) store: Arc<dyn ObjectStore>,
}

impl World {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self::with_shards(store, 1)
    }

    pub(crate) fn with_shards(store: Arc<dyn ObjectStore>, shards: u16) -> Self {
        let clock = Clock::simulated(START);
        Self { clock, log: TestLog::new(shards, clock, Arc::clone(&store)), store }
    }

    pub(crate) fn bus(&self, faults: &Arc<Faults>) -> Bus {
        bus(Arc::new(FaultyLog { log: Arc::clone(&self.log), faults: Arc::clone(faults) }))
    }

    pub(crate) fn faulty_store(&self, faults: &Arc<Faults>) -> Arc<dyn ObjectStore> {
        Arc::new(FaultyStore { store: Arc::clone(&self.store), faults: Arc::clone(faults) })
    }

    /// Runs an archiver for ever, and starts it again whenever a fault kills it.
    pub(crate) async fn archive(&self, config: ArchiverConfig, faults: Arc<Faults>) {
        loop {
            let run = archiver::run(
                config.clone(),
                self.bus(&faults),
                self.faulty_store(&faults),
                self.clock,
                CancellationToken::new(),
            );
            tokio::select! {
                result = run => panic!("the archiver stopped: {result:?}"),
                () = faults.killed() => {}
            }
            tokio::time::sleep(faults.pause(3_000)).await;
        }
    }

    /// Waits until no commit is left in the log.
    pub(crate) async fn all_buried(&self) {
        let shards = self.log.shards().get();
        for _ in 0..7_200 {
            if (0..shards).all(|shard| self.log.commits(shard) == 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("commits are left in the log after an hour");
    }

    /// Runs archivers beside something until that is done.
    pub(crate) async fn beside<T>(
        &self,
        archivers: impl IntoIterator<Item = (ArchiverConfig, Arc<Faults>)>,
        work: impl Future<Output = T>,
    ) -> T {
        let running =
            archivers.into_iter().map(|(config, faults)| Box::pin(self.archive(config, faults)));
        tokio::select! {
            _ = futures_util::future::select_all(running) => panic!("an archiver stopped"),
            done = work => done,
        }
    }

    /// Checks the archive as a whole; gives the objects' count.
    pub(crate) async fn check(&self, games: &[Played]) -> usize {
        let objects = objects::all(&*self.store).await;
        let mut rows: BTreeMap<TableId, u32> = BTreeMap::new();
        let mut ends: BTreeMap<u16, (StreamSeq, String)> = BTreeMap::new();
        for (key, object) in &objects {
            let footer = objects::footer(object);
            let (end, date) = ends.entry(key.shard).or_default();
            assert_eq!(footer.first, end.next(), "the chain is broken at {key}");
            assert_eq!((footer.first, footer.shard), (key.first, key.shard));
            assert!(footer.last >= footer.first);
            assert!(*date <= key.date.to_string(), "the date goes backwards at {key}");
            *end = footer.last;
            *date = key.date.to_string();
            let listed: Vec<_> = footer.tables.iter().map(|table| table.id).collect();
            let tables = objects::tables(object);
            assert_eq!(tables, listed, "rows and footer of {key} differ");
            assert!(tables.is_sorted());
            for table in tables {
                *rows.entry(table).or_default() += 1;
            }
        }
        for game in games {
            let times = rows.remove(&game.address.table);
            assert_eq!(times, Some(1), "rows of table {}", game.address.table);
        }
        assert!(rows.is_empty(), "rows of tables that nobody played: {rows:?}");
        for (shard, (end, _)) in ends {
            assert_eq!(self.log.marker_seqs(shard).last(), Some(&end));
        }
        objects.len()
    }
}

/// A bus of which the archiver needs the log only.
pub(crate) fn bus(log: Arc<dyn EventLog>) -> Bus {
    let nobody = Arc::new(Nobody);
    Bus {
        log,
        mail: Arc::<Nobody>::clone(&nobody),
        lobby: Arc::<Nobody>::clone(&nobody),
        snapshots: Arc::<Nobody>::clone(&nobody),
        timers: nobody,
    }
}

/// A game that was played to its end.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) address: Address,
    pub(crate) marker: Marker,
}

/// Makes games.
#[derive(Debug)]
pub(crate) struct Players {
    pub(crate) dice: ChaCha8Rng,
    pub(crate) kind: Kind,
}

impl Players {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: ChaCha8Rng::seed_from_u64(seed), kind: "tic-tac-toe".parse().expect("a kind") }
    }

    pub(crate) fn new_address(&mut self, world: &World) -> Address {
        let table = TableId::new(world.clock.now(), self.dice.random());
        Address::new(table, self.kind.clone(), world.log.shards())
    }

    /// Plays a whole game at once.
    pub(crate) fn play(&mut self, world: &World, commits: u64) -> Played {
        let address = self.new_address(world);
        let mut last = StreamSeq::ZERO;
        for seq in 1..=commits {
            let commit = commit(&address, seq, commits, world.clock.now());
            last = world.log.store(&address, Stored::Commit, commit.encode());
        }
        let marker = marker(&address, commits, last, world.clock.now());
        world.log.store(&address, Stored::Marker, marker.encode());
        Played { address, marker }
    }

    /// Plays games one after the other, with pauses.
    pub(crate) async fn play_many(
        &mut self,
        world: &World,
        games: usize,
        pause_ms: u64,
    ) -> Vec<Played> {
        let mut played = Vec::new();
        for _ in 0..games {
            let pause = self.dice.random_range(0..=2 * pause_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let commits = self.dice.random_range(1..5);
            played.push(self.play(world, commits));
        }
        played
    }
}

/// A commit of a game of so many.
pub(crate) fn commit(
    address: &Address,
    seq: u64,
    of: u64,
    at: Timestamp,
) -> Envelope<serde_json::Value> {
    let mut events = Vec::new();
    if seq == 1 {
        events.push(TableEvent::Lifecycle(Lifecycle::Opened(Opening {
            kind: address.kind.clone(),
            rules: 1,
            setup: json!({}),
            options: TableOptions::default(),
            seats: vec![Seating::Bot, Seating::Open],
            host: None,
        })));
    } else {
        events.push(TableEvent::Game(json!({"type": "marked", "cell": seq, "by": seq % 2})));
    }
    if seq == of {
        events.push(TableEvent::Lifecycle(Lifecycle::Completed(summary(at))));
    }
    let cause = if seq.is_multiple_of(2) {
        let (player, id) = ("ann".parse().expect("an id"), "c1".parse().expect("an id"));
        Cause::Command { player, id }
    } else {
        Cause::Bot { seat: Seat(0) }
    };
    Envelope {
        v: VERSION,
        table: address.table,
        kind: address.kind.clone(),
        commit: Commit { seq: TableSeq::new(seq), at, cause, events, follow_up: vec![] },
    }
}

fn summary(at: Timestamp) -> Summary {
    let ann = SummarySeat {
        seat: Seat(1),
        player: Some("ann".parse().expect("an id")),
        name: "Ann".to_owned(),
    };
    let bot = SummarySeat { seat: Seat(0), player: None, name: "Bot 1".to_owned() };
    Summary {
        closing: Closing::Finished,
        players: vec![bot, ann],
        winners: vec![Seat(1)],
        scores: vec![-3, 12],
        started_at: Some(at),
        ended_at: at.plus_millis(1_500),
    }
}

/// The marker of a game whose last commit is known.
pub(crate) fn marker(address: &Address, commits: u64, last: StreamSeq, at: Timestamp) -> Marker {
    Marker {
        v: VERSION,
        table: address.table,
        kind: address.kind.clone(),
        rules: 1,
        last_seq: TableSeq::new(commits),
        last,
        summary: summary(at),
        relayed: false,
    }
}

/// The parts of a bus that the archiver has no use for.
#[derive(Debug)]
struct Nobody;

fn unreachable_bus() -> MailError {
    let reason = "nobody".to_owned();
    MailError { reason }
}

#[async_trait]
impl Mail for Nobody {
    async fn request(&self, _: String, _: Bytes, _: Duration) -> Result<Bytes, RequestError> {
        Err(RequestError::NoResponders)
    }

    async fn serve(
        &self,
        _: String,
        _: Option<&'static str>,
    ) -> Result<BoxStream<'static, Request>, MailError> {
        Err(unreachable_bus())
    }

    async fn notify(&self, _: String, _: Bytes) -> Result<(), MailError> {
        Err(unreachable_bus())
    }

    async fn listen(&self, _: String) -> Result<BoxStream<'static, Bytes>, MailError> {
        Err(unreachable_bus())
    }

    fn connects(&self) -> u64 {
        0
    }
}

#[async_trait]
impl Lobby for Nobody {
    async fn put(&self, _: &LobbyEntry) -> Result<(), MailError> {
        Err(unreachable_bus())
    }

    async fn remove(&self, _: TableId) -> Result<(), MailError> {
        Err(unreachable_bus())
    }

    async fn list(&self) -> Result<Vec<LobbyEntry>, MailError> {
        Err(unreachable_bus())
    }

    async fn watch(&self) -> Result<BoxStream<'static, LobbyChange>, MailError> {
        Err(unreachable_bus())
    }
}

fn unreachable_log(table: TableId) -> AppendError {
    AppendError::Unavailable { table }
}

fn unreadable() -> ReadError {
    ReadError::Unavailable { reason: "nobody".to_owned() }
}

#[async_trait]
impl Snapshots for Nobody {
    async fn save(&self, address: &Address, _: Bytes) -> Result<(), AppendError> {
        Err(unreachable_log(address.table))
    }

    async fn newest(&self, _: &Address) -> Result<Option<Bytes>, ReadError> {
        Err(unreadable())
    }

    async fn forget(&self, address: &Address) -> Result<(), AppendError> {
        Err(unreachable_log(address.table))
    }
}

#[async_trait]
impl Timers for Nobody {
    async fn arm(&self, address: &Address, _: Timestamp) -> Result<(), AppendError> {
        Err(unreachable_log(address.table))
    }

    async fn disarm(&self, address: &Address) -> Result<(), AppendError> {
        Err(unreachable_log(address.table))
    }

    async fn wakes(&self, _: u16) -> Result<BoxStream<'static, Wake>, ReadError> {
        Err(unreadable())
    }
}
