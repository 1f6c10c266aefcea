//! The archiver on a real event log and real files; and what a game costs.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use rand::RngExt;
use serde_json::json;
use tablecast::archive::{Purpose, Reader, StoreConfig};
use tablecast::archiver::run;
use tablecast::bus::{Append, Bus, Stored};
use tablecast::domain::{Cause, Commit, Seat, StreamSeq, TableEvent, TableId, TableSeq, Timestamp};
use tablecast::protocol::archive::Status;
use tablecast::protocol::envelope::{Envelope, Message, VERSION};
use tablecast::protocol::subject::Address;
use tablecast::runtime::clock::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::nats_server::NatsServer;
use crate::objects;
use crate::world::{Players, config, marker};

/// Plays a card game to its end: its events differ as those of a real one do.
async fn play(bus: &Bus, seed: u64, commits: u64) -> TableId {
    let mut dice = Players::new(seed).dice;
    let now = Clock::System.now();
    let kind = "cards".parse().expect("a kind");
    let table = TableId::new(now, dice.random());
    let address = Address::new(table, kind, bus.log.shards());
    let mut last = StreamSeq::ZERO;
    for seq in 1..=commits {
        let envelope = a_move(&mut dice, &address, seq, now);
        let append = Append {
            address: address.clone(),
            after: last,
            id: format!("{table}:{seq}"),
            types: "pieces_played".to_owned(),
            worker: "w1".parse().expect("an id"),
            command: None,
            payload: envelope.encode(),
        };
        last = bus.log.append(append).await.expect("appended");
    }
    let marker = marker(&address, commits, last, now).encode();
    bus.log.complete(&address, marker).await.expect("completed");
    table
}

fn a_move(
    dice: &mut rand_chacha::ChaCha8Rng,
    address: &Address,
    seq: u64,
    now: Timestamp,
) -> Envelope<serde_json::Value> {
    let seat: u8 = dice.random_range(0..4);
    let pieces: Vec<u8> = (0..3).map(|_| dice.random_range(0..32)).collect();
    let event = json!({
        "type": if seq.is_multiple_of(4) { "pile_won" } else { "pieces_played" },
        "seat": seat,
        "pieces": pieces,
        "nonce": format!("{:016x}", dice.random::<u64>()),
        "left": 10_000 - seq,
    });
    Envelope {
        v: VERSION,
        table: address.table,
        kind: address.kind.clone(),
        commit: Commit {
            seq: TableSeq::new(seq),
            at: now.plus_millis(seq * 1_700),
            cause: Cause::Bot { seat: Seat(seat) },
            events: vec![TableEvent::Game(event)],
            follow_up: vec![],
        },
    }
}

#[expect(clippy::print_stdout, reason = "the measurement's result")]
async fn play_and_archive(games: u64, commits: u64, directory: &Path) {
    let server = NatsServer::start().await;
    let bus = server.bus(&["--shards", "2"]).await;
    let store = StoreConfig::directory(directory.to_owned());
    let store = store.open(Purpose::Write).expect("a store");
    let tables: Vec<TableId> = stream::iter(0..games)
        .map(|seed| play(&bus, seed, commits))
        .buffer_unordered(32)
        .collect()
        .await;

    let mut config = config(100, 1);
    config.batch_tables = 100.try_into().expect("some");
    config.batch_age = std::time::Duration::from_secs(1);
    let started = Instant::now();
    let archiving =
        run(config, bus.clone(), Arc::clone(&store), Clock::System, CancellationToken::new());
    tokio::select! {
        result = archiving => panic!("{result:?}"),
        () = all_buried(&bus, &tables) => {}
    }
    let elapsed_ms = started.elapsed().as_millis();

    let reader = Reader::new(Arc::clone(&store));
    let mut times = Vec::new();
    for table in &tables {
        let asked = Instant::now();
        let row = reader.get(*table).await.expect("readable").expect("archived");
        times.push(asked.elapsed());
        assert_eq!((row.status, row.commits), (Status::Archived, commits));
    }
    times.sort_unstable();
    let objects = objects::all(&*store).await;
    let bytes: usize = objects.iter().map(|(_, object)| object.len()).sum();
    println!(
        "{games} games of {commits} commits in {} objects: {} bytes per game; archived in {elapsed_ms} ms; \
         look-up p50 {:?}, p99 {:?}",
        objects.len(),
        bytes / tables.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
    );
}

/// Waits until every table is a tombstone.
async fn all_buried(bus: &Bus, tables: &[TableId]) {
    for table in tables {
        loop {
            let entries = bus.log.read(*table, StreamSeq::ZERO).await.expect("readable");
            if entries.iter().all(|entry| entry.what == Stored::Tombstone) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn games_on_a_real_log_are_archived_and_replaced_by_tombstones() {
    let directory = tempfile::tempdir().expect("a directory");
    play_and_archive(120, 4, directory.path()).await;
}

#[ignore = "a measurement: `cargo test --test archive measure -- --ignored --nocapture`"]
#[tokio::test(flavor = "multi_thread")]
async fn measure_a_thousand_games_of_two_hundred_commits() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("measured-archive");
    std::fs::remove_dir_all(&directory).ok();
    play_and_archive(1_000, 200, &directory).await;
    println!("left for a look: {}", directory.display());
}
