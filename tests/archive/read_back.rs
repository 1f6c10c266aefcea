//! What was archived is read as it was.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use tablecast::archive::{ListFilter, Reader};
use tablecast::domain::TableId;
use tablecast::protocol::archive::Status;

use crate::faults::{Faults, Plan};
use crate::world::{Played, Players, World, config};

async fn archive_some(world: &World, games: usize, pause_ms: u64) -> Vec<Played> {
    let archiver = (config(4, 1), Faults::new(1, Plan::Never));
    world
        .beside([archiver], async {
            let games = Players::new(5).play_many(world, games, pause_ms).await;
            world.all_buried().await;
            games
        })
        .await
}

async fn every_game_reads_back(store: Arc<dyn ObjectStore>) {
    let world = World::with_shards(store, 3);
    // Some three minutes around midnight.
    let games = archive_some(&world, 40, 4_000).await;
    let reader = Reader::new(Arc::clone(&world.store));
    for game in &games {
        let row = reader.get(game.address.table).await.expect("readable");
        let row = row.expect("archived");
        let summary = &game.marker.summary;
        assert_eq!(row.table_id, game.address.table);
        assert_eq!(row.kind, game.address.kind);
        assert_eq!(row.status, Status::Archived);
        assert_eq!(row.commits, game.marker.last_seq.get());
        assert_eq!(row.players, summary.players);
        assert_eq!(row.winners, summary.winners);
        assert_eq!(row.scores, summary.scores);
        assert_eq!((row.started_at, row.ended_at), (summary.started_at, summary.ended_at));
        assert_eq!(row.duration_ms, Some(1_500));
        // One event per commit, and the last commit ends the game as well.
        assert_eq!(row.events.len(), usize::try_from(row.commits).expect("few") + 1);
        assert_eq!(row.events[0].kind, "table.opened");
        assert_eq!(row.events[0].actor, "bot:0");
        let last = row.events.last().expect("at least two");
        assert_eq!(last.kind, "table.completed");
        assert_eq!(last.seq, game.marker.last_seq);
        assert_eq!(last.ts, row.opened_at);
        let data: serde_json::Value = serde_json::from_str(&last.data).expect("JSON");
        assert_eq!(data["scores"], serde_json::json!([-3, 12]));
    }
}

#[tokio::test(start_paused = true)]
async fn every_game_reads_back_from_memory() {
    every_game_reads_back(Arc::new(InMemory::new())).await;
}

#[tokio::test(start_paused = true)]
async fn every_game_reads_back_from_local_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = LocalFileSystem::new_with_prefix(directory.path()).expect("a store");
    every_game_reads_back(Arc::new(store)).await;
}

#[tokio::test(start_paused = true)]
async fn an_archive_without_the_game_or_without_anything_has_no_answer() {
    let world = World::new(Arc::new(InMemory::new()));
    let reader = Reader::new(Arc::clone(&world.store));
    let unknown = TableId::new(world.clock.now(), [9; 10]);
    assert_eq!(reader.get(unknown).await.expect("readable"), None);
    archive_some(&world, 3, 1_000).await;
    assert_eq!(reader.get(unknown).await.expect("readable"), None);
    let listed = reader.ls(&ListFilter::default(), 10).await;
    assert_eq!(listed.expect("readable").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_game_that_ends_days_later_is_found() {
    let world = World::new(Arc::new(InMemory::new()));
    let mut players = Players::new(5);
    let address = players.new_address(&world);
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    let at = world.clock.now();
    let last = crate::world::commit(&address, 1, 1, at);
    let last = tablecast::protocol::envelope::Message::encode(&last);
    let last = world.log.store(&address, tablecast::bus::Stored::Commit, last);
    let marker = crate::world::marker(&address, 1, last, at);
    let marker = tablecast::protocol::envelope::Message::encode(&marker);
    world.log.store(&address, tablecast::bus::Stored::Marker, marker);
    archive_some(&world, 5, 1_000).await;
    let reader = Reader::new(Arc::clone(&world.store));
    assert!(reader.get(address.table).await.expect("readable").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_list_is_newest_first_and_filtered() {
    let world = World::with_shards(Arc::new(InMemory::new()), 2);
    let games = archive_some(&world, 30, 4_000).await;
    let reader = Reader::new(Arc::clone(&world.store));
    let all = reader.ls(&ListFilter::default(), 1_000).await.expect("readable");
    assert_eq!(all.len(), games.len());
    assert!(all.is_sorted_by(|a, b| a.ended_at >= b.ended_at));
    assert!(all.iter().all(|row| row.events.is_empty()));
    let newest = reader.ls(&ListFilter::default(), 7).await.expect("readable");
    assert_eq!(newest, all[..7]);

    let mut of_dates = 0;
    for date in ["2026-11-22", "2026-11-23", "2026-11-24"] {
        let filter = ListFilter { date: Some(date.parse().expect("a date")), kind: None };
        of_dates += reader.ls(&filter, 1_000).await.expect("readable").len();
    }
    assert_eq!(of_dates, games.len());
    let chess = ListFilter { date: None, kind: Some("chess".parse().expect("a kind")) };
    assert_eq!(reader.ls(&chess, 10).await.expect("readable"), []);
}

#[tokio::test(start_paused = true)]
async fn a_footer_of_thousands_of_tables_is_read_in_a_second_request() {
    let world = World::new(Arc::new(InMemory::new()));
    let archiver = (config(2_000, 1), Faults::new(1, Plan::Never));
    let mut players = Players::new(5);
    let games: Vec<_> = (0..2_000).map(|_| players.play(&world, 1)).collect();
    world.beside([archiver], world.all_buried()).await;
    assert_eq!(world.check(&games).await, 1);
    let reader = Reader::new(Arc::clone(&world.store));
    for game in games.iter().step_by(97) {
        let row = reader.get(game.address.table).await.expect("readable");
        assert_eq!(row.expect("archived").table_id, game.address.table);
    }
}
