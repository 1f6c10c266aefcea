use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::archive::{Reader, columns, objects};
use crate::bus::memory::{self, Faults};
use crate::bus::{Append, Bus};
use crate::catalog::{Catalog, Referee};
use crate::domain::{
    Cause, Identity, Opening, Seat, Seating, StartRule, Status, StreamSeq, TableOptions, TableSeq,
    Timestamp, TurnContext,
};
use crate::gateway::archived::Archived;
use crate::gateway::breaker::Breaker;
use crate::gateway::hidden_number::HiddenNumber;
use crate::gateway::mailbox::{ConnectionId, Mailbox};
use crate::gateway::outbox::{Next, OutboxLimits};
use crate::gateway::owners::{CareLimits, For, Owners};
use crate::gateway::throttle::Rate;
use crate::protocol::archive::{
    self, ArchivedTable, Footer, FooterTable, ObjectKey, OpaqueEnvelope,
};
use crate::protocol::envelope::{Message, Snapshot, Tombstone, VERSION};
use crate::protocol::frame::Deliver;
use crate::protocol::subject::Address;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

const LINGER: Duration = Duration::from_secs(30);

struct Scene {
    bus: Bus,
    faults: Faults,
    catalog: Catalog,
    clock: Clock,
    hub: Arc<Hub>,
    owners: Arc<Owners>,
}

/// One table, its worker's side and its place in the log.
struct Playing {
    table: TableId,
    address: Address,
    referee: Box<dyn Referee>,
    last: StreamSeq,
}

impl Scene {
    fn new() -> Self {
        Self::with_archive(None)
    }

    fn with_archive(archived: Option<Archived>) -> Self {
        let (bus, faults) = memory::bus(NonZeroU16::MIN);
        let catalog = Catalog::new().with::<HiddenNumber>();
        let clock = Clock::simulated(Timestamp::from_millis(1_795_000_000_000));
        let many = NonZeroU32::new(1000).unwrap();
        let limits =
            CareLimits { silence: Duration::from_millis(700), rate: Rate::per_second(many, many) };
        let owners = Owners::new(limits, Entropy::from_seed([4; 32]));
        let context = FeedContext {
            bus: bus.clone(),
            catalog: catalog.clone(),
            clock,
            entropy: Entropy::from_seed([3; 32]),
            owners: Arc::clone(&owners),
            breaker: Breaker::new(clock.now()),
            reads: Semaphore::new(1),
            archived,
            ring_len: 4,
            linger: LINGER,
            gateway: "g1".into(),
            shutdown: CancellationToken::new(),
        };
        let hub = Hub::new(context, TaskTracker::new());
        Self { bus, faults, catalog, clock, hub, owners }
    }

    fn cx(&self) -> TurnContext {
        TurnContext { now: self.clock.now(), seed: [7; 32] }
    }

    /// A table that has begun, not yet in the log beyond its opening.
    async fn open(&self) -> Playing {
        self.open_with(TableOptions::default()).await
    }

    async fn open_with(&self, options: TableOptions) -> Playing {
        let kind: Kind = "hidden-number".parse().unwrap();
        let human = |player: &str| Seating::Human {
            player: player.parse().unwrap(),
            name: player.to_owned(),
        };
        let opening = Opening {
            kind: kind.clone(),
            rules: 1,
            setup: serde_json::json!({}),
            options: TableOptions { start: StartRule::WhenFull, ..options },
            seats: vec![human("nok"), human("somchai")],
            host: Some(Seat(0)),
        };
        let table = TableId::new(self.clock.now(), rand::random());
        let rules = self.catalog.get(&kind).unwrap();
        let (referee, drafted) = rules.open(table, opening, Cause::Claim, &self.cx()).unwrap();
        let mut playing = Playing {
            table,
            address: Address::new(table, kind, NonZeroU16::MIN),
            referee,
            last: StreamSeq::ZERO,
        };
        playing.store(&self.bus, drafted.payload).await;
        playing
    }

    async fn say(&self, playing: &mut Playing, number: u32) {
        let command = serde_json::json!({ "type": "say", "number": number });
        self.command(playing, "nok", command).await;
    }

    async fn command(&self, playing: &mut Playing, by: &str, command: serde_json::Value) {
        let id = format!("c{}", playing.last.get()).parse().unwrap();
        let by = Identity { player: by.parse().unwrap(), name: by.to_owned() };
        let decided = Referee::decide(&mut *playing.referee, &by, id, command, &self.cx());
        let drafted = decided.unwrap().unwrap();
        playing.store(&self.bus, drafted.payload).await;
    }

    fn mailbox(number: u64) -> Arc<Mailbox> {
        let many = NonZeroU32::new(1000).unwrap();
        let limits = OutboxLimits {
            frames_per_table: 4,
            bytes_per_table: 100_000,
            age: Duration::from_secs(3600),
            table_rate: Rate::per_second(many, many),
            connection_rate: Rate::per_second(many, many),
            byte_rate: Rate::per_second(NonZeroU32::MAX, NonZeroU32::MAX),
        };
        let id = ConnectionId(number);
        Arc::new(Mailbox::new(id, Wire::Json, None, limits))
    }

    fn join(&self, mailbox: &Arc<Mailbox>, table: TableId, cursor: Option<u64>) -> Arc<Feed> {
        let join = Join {
            mailbox: Arc::clone(mailbox),
            player: None,
            cursor: cursor.map(TableSeq::new),
            deliver: Deliver::Events,
        };
        self.hub.join(table, &join)
    }
}

impl Playing {
    /// As its worker would save it.
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            v: VERSION,
            table: self.table,
            kind: self.address.kind.clone(),
            rules: 1,
            last: self.last,
            worker: "w".parse().unwrap(),
            state: self.referee.state(),
        }
    }

    async fn save(&self, bus: &Bus) {
        bus.snapshots.save(&self.address, self.snapshot().encode()).await.unwrap();
    }

    async fn store(&mut self, bus: &Bus, payload: Bytes) {
        let append = Append {
            address: self.address.clone(),
            after: self.last,
            id: format!("{}", self.referee.last_seq().get()),
            types: String::new(),
            worker: "w".parse().unwrap(),
            command: None,
            payload,
        };
        self.last = bus.log.append(append).await.unwrap();
        self.referee.confirm();
    }
}

/// The types and numbers of the frames that wait, once `count` of them do.
async fn frames(mailbox: &Mailbox, feed: &Feed, count: usize) -> Vec<String> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let next = mailbox.lock().next(tokio::time::Instant::now());
        match next {
            Next::Send(frame, _) => {
                let frame: serde_json::Value = serde_json::from_slice(&frame.payload()).unwrap();
                let name = frame["type"].as_str().unwrap();
                frames.push(match frame.get("seq") {
                    Some(seq) => format!("{name} {seq}"),
                    None => format!("{name} {}", frame["reason"].as_str().unwrap()),
                });
            }
            Next::SnapshotDue(_) => feed.resolve(mailbox),
            Next::LobbyDue | Next::WaitUntil(..) | Next::Nothing => mailbox.rung().await,
        }
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn the_last_message_of_all_may_be_lost() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    assert_eq!(frames(&mailbox, &feed, 2).await, ["subscribed 1", "snapshot 1"]);
    scene.faults.drop_live(1);
    scene.say(&mut playing, 7).await;
    assert_eq!(frames(&mailbox, &feed, 1).await, ["commit 2"]);
}

#[tokio::test(start_paused = true)]
async fn many_first_followers_share_one_feed_and_miss_nothing() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    let mailboxes: Vec<_> = (0..100).map(Scene::mailbox).collect();
    let feeds: Vec<_> =
        mailboxes.iter().map(|mailbox| scene.join(mailbox, playing.table, None)).collect();
    assert!(feeds.iter().all(|feed| Arc::ptr_eq(feed, &feeds[0])));
    scene.say(&mut playing, 7).await;
    for mailbox in &mailboxes {
        let seen = frames(mailbox, &feeds[0], 2).await;
        if seen == ["subscribed 1", "snapshot 1"] {
            assert_eq!(frames(mailbox, &feeds[0], 1).await, ["commit 2"]);
        } else {
            assert_eq!(seen, ["subscribed 2", "snapshot 2"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_ring_holds_what_it_says_and_no_more() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    frames(&mailbox, &feed, 2).await;
    for number in 2..=9 {
        scene.say(&mut playing, number).await;
        assert_eq!(frames(&mailbox, &feed, 1).await, [format!("commit {number}")]);
    }
    scene.join(&mailbox, playing.table, Some(5));
    let missed = ["subscribed 9", "commit 6", "commit 7", "commit 8", "commit 9"];
    assert_eq!(frames(&mailbox, &feed, 5).await, missed);
    // What is older is asked of the log.
    scene.join(&mailbox, playing.table, Some(4));
    assert_eq!(frames(&mailbox, &feed, 2).await, ["subscribed 9", "commit 5"]);
}

/// How often the log is read while each of these tables is followed by so many, in three waves.
async fn reads_for(scene: &Scene, tables: &[Playing], followers: u64) -> u64 {
    let before = scene.faults.reads();
    let mut number = 0;
    for cursor in [None, Some(7), Some(3)] {
        let mut followed = Vec::new();
        for playing in tables {
            for _ in 0..followers {
                number += 1;
                let mailbox = Scene::mailbox(number);
                let feed = scene.join(&mailbox, playing.table, cursor);
                followed.push((mailbox, feed));
            }
        }
        for (mailbox, feed) in &followed {
            let first = frames(mailbox, feed, 2).await;
            let then = cursor.map_or("snapshot 8".to_owned(), |at| format!("commit {}", at + 1));
            assert_eq!(first, ["subscribed 8".to_owned(), then]);
        }
        for (mailbox, feed) in followed {
            feed.leave(mailbox.connection);
        }
    }
    scene.faults.reads() - before
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_resumes_of_a_hundred_tables_read_each_of_them_once() {
    let scene = Scene::new();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _local = ::metrics::set_default_local_recorder(&recorder);
    let mut tables = Vec::new();
    for _ in 0..100 {
        let mut playing = scene.open().await;
        for number in 2..=8 {
            scene.say(&mut playing, number).await;
        }
        playing.save(&scene.bus).await;
        tables.push(playing);
    }
    // With one follower in each wave: the last entry, and the five before it that the second wave and the third miss.
    let of_few = reads_for(&scene, &tables[..10], 1).await;
    let of_many = reads_for(&scene, &tables[10..], 37).await;
    assert_eq!((of_few, of_many), (10 * 6, 90 * 6));
    let counted = metrics.render();
    let line = r#"tablecast_gateway_loads_total{from="snapshot"} 100"#;
    assert!(counted.contains(line), "{counted}");
    let line = r#"tablecast_gateway_joins_total{from="log"}"#;
    assert!(counted.contains(line), "{counted}");
}

#[tokio::test(start_paused = true)]
async fn those_who_are_behind_miss_nothing_that_happens_while_the_log_is_read() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    for number in 2..=20 {
        scene.say(&mut playing, number).await;
    }
    let early = Scene::mailbox(1);
    let feed = scene.join(&early, playing.table, None);
    frames(&early, &feed, 2).await;
    scene.faults.set_delay(Duration::from_millis(40));
    let (behind, view) = (Scene::mailbox(2), Scene::mailbox(3));
    scene.join(&behind, playing.table, Some(5));
    let join = Join {
        mailbox: Arc::clone(&view),
        player: None,
        cursor: Some(TableSeq::new(5)),
        deliver: Deliver::Views,
    };
    scene.hub.join(playing.table, &join);
    // Whoever only draws needs none of them.
    assert_eq!(frames(&view, &feed, 2).await, ["subscribed 20", "snapshot 20"]);
    for number in 21..=30 {
        scene.say(&mut playing, number).await;
        assert_eq!(frames(&early, &feed, 1).await, [format!("commit {number}")]);
    }
    let seen = frames(&behind, &feed, 26).await;
    let at: u64 = seen[0].trim_start_matches("subscribed ").parse().unwrap();
    assert!(at > 20, "some of it happened meanwhile: {seen:?}");
    let missed: Vec<_> = (6..=30).map(|number| format!("commit {number}")).collect();
    assert_eq!(seen[1..], missed);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_makes_a_snapshot_of_a_resume() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    for number in 2..=20 {
        scene.say(&mut playing, number).await;
    }
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    frames(&mailbox, &feed, 2).await;
    scene.faults.set_outage(true);
    scene.join(&mailbox, playing.table, Some(5));
    assert_eq!(frames(&mailbox, &feed, 2).await, ["subscribed 20", "snapshot 20"]);
    // Who leaves meanwhile is not waited for, and keeps nothing in memory.
    let gone = Scene::mailbox(2);
    scene.join(&gone, playing.table, Some(6));
    feed.leave(gone.connection);
    feed.leave(mailbox.connection);
    scene.faults.set_outage(false);
    tokio::time::sleep(LINGER * 2).await;
    assert!(!scene.hub.needs_owner(playing.table));
    assert!(matches!(gone.lock().next(tokio::time::Instant::now()), Next::Nothing));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_snapshot_costs_nothing_but_time() {
    let scene = Scene::new();
    for damage in ["version", "position", "bytes", "kind"] {
        let mut playing = scene.open().await;
        for number in 2..=10 {
            scene.say(&mut playing, number).await;
        }
        let mut snapshot = playing.snapshot();
        for number in 11..=12 {
            scene.say(&mut playing, number).await;
        }
        match damage {
            "version" => snapshot.state.game_version += 1,
            "position" => snapshot.last = StreamSeq::new(1),
            "kind" => snapshot.kind = "chess".parse().unwrap(),
            _ => snapshot.state.bytes.truncate(5),
        }
        scene.bus.snapshots.save(&playing.address, snapshot.encode()).await.unwrap();
        let mailbox = Scene::mailbox(1);
        let feed = scene.join(&mailbox, playing.table, Some(9));
        let seen = frames(&mailbox, &feed, 4).await;
        assert_eq!(seen, ["subscribed 12", "commit 10", "commit 11", "commit 12"], "{damage}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_and_what_was_missed_is_read() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    scene.faults.set_outage(true);
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.faults.set_outage(false);
    assert_eq!(frames(&mailbox, &feed, 2).await, ["subscribed 1", "snapshot 1"]);
    scene.say(&mut playing, 7).await;
    assert_eq!(frames(&mailbox, &feed, 1).await, ["commit 2"]);
}

#[tokio::test(start_paused = true)]
async fn followers_are_told_of_an_outage_that_lasts() {
    let scene = Scene::new();
    let playing = scene.open().await;
    scene.faults.set_outage(true);
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    assert_eq!(frames(&mailbox, &feed, 1).await, ["unsubscribed unavailable"]);
    assert_eq!(mailbox.lock().take_dropped(), [(playing.table, feed.id)]);
    scene.faults.set_outage(false);
    let feed = scene.join(&mailbox, playing.table, None);
    assert_eq!(frames(&mailbox, &feed, 2).await, ["subscribed 1", "snapshot 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_feed_ends_some_time_after_its_last_follower_left() {
    let scene = Scene::new();
    let playing = scene.open().await;
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    frames(&mailbox, &feed, 2).await;
    feed.leave(mailbox.connection);
    tokio::time::sleep(LINGER / 2).await;
    // Whoever comes back in time finds it as it was.
    assert!(Arc::ptr_eq(&feed, &scene.join(&mailbox, playing.table, None)));
    tokio::time::sleep(LINGER * 2).await;
    assert!(scene.hub.needs_owner(playing.table));
    feed.leave(mailbox.connection);
    tokio::time::sleep(LINGER + Duration::from_secs(1)).await;
    assert!(!scene.hub.needs_owner(playing.table));
    let other = scene.join(&mailbox, playing.table, None);
    assert!(!Arc::ptr_eq(&feed, &other));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_over_needs_an_owner_if_it_names_a_successor() {
    let scene = Scene::new();
    for (rematch_ms, needs_owner) in [(0, false), (20_000, true)] {
        let options = TableOptions { rematch_ms, ..TableOptions::default() };
        let mut playing = scene.open_with(options).await;
        let mailbox = Scene::mailbox(1);
        let feed = scene.join(&mailbox, playing.table, None);
        frames(&mailbox, &feed, 2).await;
        scene.say(&mut playing, 0).await;
        assert_eq!(frames(&mailbox, &feed, 1).await, ["commit 2"]);
        if rematch_ms > 0 {
            for by in ["nok", "somchai"] {
                let again = serde_json::json!({ "type": "table.rematch" });
                scene.command(&mut playing, by, again).await;
            }
            assert_eq!(frames(&mailbox, &feed, 2).await, ["commit 3", "commit 4"]);
        }
        assert_eq!(playing.referee.status(), Status::Ended);
        assert_eq!(scene.hub.needs_owner(playing.table), needs_owner);
        feed.leave(mailbox.connection);
        tokio::time::sleep(LINGER + Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_is_known_to_be_its_last_claimants() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    frames(&mailbox, &feed, 2).await;
    let [first, second] = ["w", "w2"].map(|worker| worker.parse().unwrap());
    let of = |worker| scene.hub.running_of(worker).len();
    assert_eq!((of(&first), of(&second)), (1, 0));
    let claim = playing.referee.claim(second.clone(), None, &scene.cx());
    playing.store(&scene.bus, claim.payload).await;
    frames(&mailbox, &feed, 1).await;
    assert_eq!((of(&first), of(&second)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_seen_settles_what_was_going_to_be_asked() {
    let scene = Scene::new();
    let mut playing = scene.open().await;
    let mailbox = Scene::mailbox(1);
    let feed = scene.join(&mailbox, playing.table, None);
    frames(&mailbox, &feed, 2).await;
    let kind = playing.address.kind.clone();
    scene.owners.look_after(playing.table, kind, For::Followers);
    assert_eq!(scene.owners.orphans(), 1);
    let claim = playing.referee.claim("w2".parse().unwrap(), None, &scene.cx());
    playing.store(&scene.bus, claim.payload).await;
    frames(&mailbox, &feed, 1).await;
    assert_eq!(scene.owners.orphans(), 0);
}

/// A store that has the table, and the tombstone that leads there.
async fn archive(playing: &Playing, bus: &Bus, store: &dyn ObjectStore) {
    let entries = bus.log.read(playing.table, StreamSeq::ZERO).await.unwrap();
    let events = entries.iter().flat_map(|entry| {
        let envelope = OpaqueEnvelope::decode(&entry.payload, playing.table).unwrap();
        envelope.commit.into_events().unwrap()
    });
    let summary = playing.referee.summary().unwrap();
    let (table, kind) = (playing.table, playing.address.kind.clone());
    let (last_seq, epoch) = (playing.referee.last_seq(), summary.ended_at);
    let row = ArchivedTable {
        table_id: table,
        kind: kind.clone(),
        rules_version: 1,
        status: archive::Status::Archived,
        reason: None,
        closing: summary.closing,
        opened_at: table.opened_at(),
        started_at: summary.started_at,
        ended_at: summary.ended_at,
        duration_ms: None,
        commits: last_seq.get(),
        players: summary.players.clone(),
        winners: summary.winners.clone(),
        scores: summary.scores.clone(),
        dead_letters: vec![],
        events: events.collect(),
    };
    let first = StreamSeq::new(1);
    let key = ObjectKey { date: archive::Date::of(epoch), epoch, shard: 0, first };
    let (status, last) = (row.status, playing.last);
    let tables = vec![FooterTable { id: table, kind: kind.clone(), status, last_seq, last }];
    let footer = Footer { epoch, shard: 0, first, last: first, dead_letters: vec![], tables };
    let object = columns::encode(&[row], &footer);
    store.put(&objects::path(&key), object.into()).await.unwrap();
    let tombstone =
        Tombstone { v: VERSION, table, kind, last_seq, object: key.to_string(), at: epoch };
    let ttl = Duration::from_secs(3600);
    bus.log.bury(&playing.address, playing.last, tombstone.encode(), ttl).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_game_of_the_archive_is_read_once_for_everyone_and_then_told_to_the_end() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let archived = Archived::new(Reader::new(Arc::clone(&store)));
    let scene = Scene::with_archive(Some(archived));
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _local = ::metrics::set_default_local_recorder(&recorder);
    let mut playing = scene.open().await;
    for number in (0..100).rev() {
        scene.say(&mut playing, number).await;
    }
    archive(&playing, &scene.bus, &*store).await;
    let mut followed = Vec::new();
    for number in 0..50 {
        let mailbox = Scene::mailbox(number);
        followed.push((scene.join(&mailbox, playing.table, Some(1)), mailbox));
    }
    assert!(matches!(scene.hub.spectator_snapshot(playing.table).await, Ok(Known::Table(_))));
    for (feed, mailbox) in &followed {
        // More than an outbox takes of a table that is played.
        let seen = frames(mailbox, feed, 102).await;
        assert_eq!((seen[0].as_str(), seen[1].as_str()), ("subscribed 101", "commit 2"));
        assert_eq!(seen[100..], ["commit 101", "unsubscribed archived"]);
        assert_eq!(mailbox.lock().take_dropped(), [(playing.table, feed.id)]);
        feed.leave(mailbox.connection);
    }
    // It needs nobody, and goes once nobody looks.
    assert!(!scene.hub.needs_owner(playing.table));
    tokio::time::sleep(LINGER).await;
    assert!(followed[0].0.spectator_snapshot().is_none());
    // Others are told from memory.
    let late = Scene::mailbox(99);
    let feed = scene.join(&late, playing.table, None);
    let seen = frames(&late, &feed, 3).await;
    assert_eq!(seen, ["subscribed 101", "snapshot 101", "unsubscribed archived"]);
    let counted = metrics.render();
    let line = r#"tablecast_gateway_archive_reads_total{result="found"} 1"#;
    assert!(counted.contains(line), "{counted}");
}

#[tokio::test(start_paused = true)]
async fn a_table_in_the_archive_is_said_to_be_there() {
    let scene = Scene::new();
    let playing = scene.open().await;
    let early = Scene::mailbox(1);
    let feed = scene.join(&early, playing.table, None);
    frames(&early, &feed, 2).await;
    let ttl = Duration::from_secs(3600);
    let tombstone = Bytes::from_static(b"tombstone");
    let (address, last) = (&playing.address, playing.last);
    scene.bus.log.bury(address, last, tombstone, ttl).await.unwrap();
    // Who has the table in view keeps it.
    assert!(feed.spectator_snapshot().is_some());
    feed.leave(early.connection);
    tokio::time::sleep(LINGER + Duration::from_secs(1)).await;
    let late = Scene::mailbox(2);
    let feed = scene.join(&late, playing.table, None);
    assert_eq!(frames(&late, &feed, 1).await, ["unsubscribed archived"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_is_counted_and_ends_with_the_newest_snapshot() {
    let scene = Scene::new();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _local = ::metrics::set_default_local_recorder(&recorder);
    let mut playing = scene.open().await;
    let (slow, quick) = (Scene::mailbox(1), Scene::mailbox(2));
    let feed = scene.join(&slow, playing.table, None);
    frames(&slow, &feed, 2).await;
    scene.join(&quick, playing.table, None);
    frames(&quick, &feed, 2).await;
    for number in 2..=9 {
        scene.say(&mut playing, number).await;
        // The other one is not held up.
        assert_eq!(frames(&quick, &feed, 1).await, [format!("commit {number}")]);
    }
    assert_eq!(frames(&slow, &feed, 1).await, ["snapshot 9"]);
    let counted = metrics.render();
    let line = "tablecast_gateway_frames_conflated_total 8";
    assert!(counted.contains(line), "{counted}");
}
