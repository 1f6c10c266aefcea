//! Messages that cannot be read, commits that are gone, stores that are down: counted and kept, never stuck.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::{ObjectStore, PutMode};
use tablecast::archive::Reader;
use tablecast::archiver::{ArchiverError, run};
use tablecast::bus::Stored;
use tablecast::protocol::archive::{ArchivedTable, Status};
use tablecast::protocol::envelope::Message;
use tablecast::protocol::subject::Address;
use tokio_util::sync::CancellationToken;

use crate::faults::{Faults, Plan};
use crate::objects;
use crate::world::{Players, World, commit, config, marker};

async fn archived(world: &World, game: tablecast::domain::TableId) -> ArchivedTable {
    let reader = Reader::new(Arc::clone(&world.store));
    loop {
        if let Some(row) = reader.get(game).await.expect("readable") {
            return row;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn healthy() -> [(tablecast::archiver::ArchiverConfig, Arc<Faults>); 1] {
    [(config(3, 1), Faults::new(1, Plan::Never))]
}

fn a_world() -> (World, Players) {
    (World::new(Arc::new(InMemory::new())), Players::new(3))
}

#[tokio::test(start_paused = true)]
async fn a_message_among_the_commits_that_cannot_be_read_is_set_aside() {
    let (world, mut players) = a_world();
    let address = players.new_address(&world);
    let at = world.clock.now();
    let store = |payload| world.log.store(&address, Stored::Commit, payload);
    store(commit(&address, 1, 3, at).encode());
    let poison = store("no MessagePack".into());
    store(commit(&address, 2, 3, at).encode());
    let repeated = store(commit(&address, 2, 3, at).encode());
    let last = store(commit(&address, 3, 3, at).encode());
    let done = marker(&address, 3, last, at).encode();
    world.log.store(&address, Stored::Marker, done);

    let row = world
        .beside(healthy(), async {
            let row = archived(&world, address.table).await;
            world.all_buried().await;
            row
        })
        .await;
    assert_eq!((row.status, row.commits), (Status::Archived, 3));
    assert_eq!(row.dead_letters, [poison, repeated]);
    let aside = world.log.set_aside_of(0);
    let aside: Vec<_> = aside.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(aside, [poison, repeated]);
}

#[tokio::test(start_paused = true)]
async fn a_game_with_a_missing_commit_is_archived_as_incomplete_and_stays_in_the_log() {
    let (world, mut players) = a_world();
    let address = players.new_address(&world);
    let at = world.clock.now();
    for seq in [1, 2] {
        let commit = commit(&address, seq, 4, at).encode();
        world.log.store(&address, Stored::Commit, commit);
    }
    let last = commit(&address, 4, 4, at).encode();
    let last = world.log.store(&address, Stored::Commit, last);
    let done = marker(&address, 4, last, at).encode();
    world.log.store(&address, Stored::Marker, done);

    let row = world
        .beside(healthy(), async {
            let row = archived(&world, address.table).await;
            tokio::time::sleep(Duration::from_secs(600)).await;
            row
        })
        .await;
    assert_eq!((row.status, row.commits), (Status::Incomplete, 3));
    assert_eq!(row.reason.as_deref(), Some("3 of 4 commits are readable"));
    assert_eq!(world.log.commits(0), 3, "what the archive lacks must stay");
}

#[tokio::test(start_paused = true)]
async fn a_game_whose_commits_are_gone_keeps_its_result_and_holds_up_nobody() {
    let (world, mut players) = a_world();
    let lost = players.play(&world, 4);
    world.log.lose(&lost.address);
    let games = vec![lost.clone(), players.play(&world, 2), players.play(&world, 2)];
    let row = world
        .beside(healthy(), async {
            world.all_buried().await;
            archived(&world, lost.address.table).await
        })
        .await;
    assert_eq!((row.status, row.commits, row.events.len()), (Status::Lost, 0, 0));
    assert_eq!(row.winners, lost.marker.summary.winners);
    assert_eq!(world.check(&games).await, 1);
}

#[tokio::test(start_paused = true)]
async fn markers_that_cannot_be_read_are_accounted_for_in_the_chain() {
    let (world, mut players) = a_world();
    let store = |address: &Address, payload| world.log.store(address, Stored::Marker, payload);
    let poison = store(&players.new_address(&world), "no MessagePack".into());
    let game = players.play(&world, 2);
    let second = store(&game.address, game.marker.encode());
    world
        .beside(healthy(), async {
            world.all_buried().await;
            // Alone, and after the day has changed: the object has no rows.
            tokio::time::sleep(Duration::from_secs(60)).await;
            let lonely = store(&players.new_address(&world), "neither".into());
            tokio::time::sleep(Duration::from_secs(60)).await;
            // Of a table that is archived, and whose tombstone has expired.
            let late = players.play(&world, 1);
            world.all_buried().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            let third = store(&late.address, late.marker.encode());
            tokio::time::sleep(Duration::from_secs(60)).await;

            world.check(&[game.clone(), late]).await;
            let objects = objects::all(&*world.store).await;
            let dead = objects.iter().map(|(_, object)| objects::footer(object).dead_letters);
            let dead: Vec<_> = dead.collect();
            assert_eq!(dead, [vec![poison, second], vec![lonely], vec![], vec![third]]);
            assert_eq!(world.log.set_aside_of(0).len(), 4);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_after_the_end_is_set_aside_and_buried_with_the_rest() {
    let (world, mut players) = a_world();
    let game = players.play(&world, 2);
    let at = world.clock.now();
    let late = commit(&game.address, 3, 9, at).encode();
    let late = world.log.store(&game.address, Stored::Commit, late);
    world.beside(healthy(), world.all_buried()).await;
    let row = archived(&world, game.address.table).await;
    assert_eq!((row.status, row.commits), (Status::Archived, 2));
    let aside = world.log.set_aside_of(0);
    assert_eq!(aside.first().map(|(seq, _)| *seq), Some(late));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lags_a_little_loses_nothing() {
    let (world, mut players) = a_world();
    let game = players.play(&world, 3);
    world.log.hide(&game.address, true);
    let catching_up = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.log.hide(&game.address, false);
        archived(&world, game.address.table).await
    };
    let row = world.beside(healthy(), catching_up).await;
    assert_eq!((row.status, row.commits), (Status::Archived, 3));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_for_an_hour_games_stay_in_the_log() {
    let (world, mut players) = a_world();
    let faults = Faults::new(1, Plan::Never);
    let archiver = [(config(3, 1), Arc::clone(&faults))];
    let games = world
        .beside(archiver, async {
            let mut games = vec![players.play(&world, 2)];
            world.all_buried().await;
            faults.set(Plan::StoreDown);
            games.extend(players.play_many(&world, 20, 180_000).await);
            let waiting: u64 = games[1..].iter().map(|game| game.marker.last_seq.get()).sum();
            assert_eq!(u64::try_from(world.log.commits(0)), Ok(waiting));
            faults.set(Plan::Never);
            world.all_buried().await;
            games
        })
        .await;
    world.check(&games).await;
}

#[tokio::test(start_paused = true)]
async fn an_archiver_that_hangs_while_another_goes_on_for_days_falls_back_into_the_chain() {
    let (world, mut players) = a_world();
    let slow = Faults::new(1, Plan::SlowPuts(Duration::from_secs(3 * 86_400)));
    // The probe would hang as well: the archiver hangs once it works.
    let working = Faults::new(2, Plan::Never);
    let archivers = [(config(3, 1), Arc::clone(&slow)), (config(3, 2), working)];
    slow.set(Plan::Never);
    let games = world
        .beside(archivers, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.set(Plan::SlowPuts(Duration::from_secs(3 * 86_400)));
            let mut games = players.play_many(&world, 10, 8 * 3_600_000).await;
            slow.set(Plan::Never);
            games.extend(players.play_many(&world, 10, 1_000).await);
            world.all_buried().await;
            tokio::time::sleep(Duration::from_secs(8 * 86_400)).await;
            games
        })
        .await;
    world.check(&games).await;
}

/// A store that answers "written" to every put, as some do.
#[derive(Debug)]
struct Ignorant(InMemory);

impl std::fmt::Display for Ignorant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ignorant")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Ignorant {
    async fn put_opts(
        &self,
        location: &object_store::path::Path,
        payload: object_store::PutPayload,
        mut options: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        options.mode = PutMode::Overwrite;
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures_util::stream::BoxStream<
            'static,
            object_store::Result<object_store::path::Path>,
        >,
    ) -> futures_util::stream::BoxStream<'static, object_store::Result<object_store::path::Path>>
    {
        self.0.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> futures_util::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>>
    {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_overwrites_what_must_not_be_overwritten_is_refused_by_name() {
    let (world, _) = a_world();
    let bus = world.bus(&Faults::new(1, Plan::Never));
    let store = Arc::new(Ignorant(InMemory::new()));
    let shutdown = CancellationToken::new();
    let error = run(config(3, 1), bus, store, world.clock, shutdown)
        .await
        .expect_err("the store is unsafe");
    assert!(matches!(&error, ArchiverError::UnsafeStore { store } if store == "Ignorant"));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_exist_is_refused() {
    let (world, _) = a_world();
    let bus = world.bus(&Faults::new(1, Plan::Never));
    let mut config = config(3, 1);
    config.shards = vec![0, 1];
    let shutdown = CancellationToken::new();
    let store = Arc::clone(&world.store);
    let error = run(config, bus, store, world.clock, shutdown).await;
    let error = error.expect_err("there is one shard only");
    assert_eq!(error.to_string(), "there is no shard 1: this deployment has 1, from 0");
}
