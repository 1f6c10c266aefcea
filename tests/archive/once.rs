//! Exactly once: two archivers on one shard, crashes at every step, stores that refuse, delay and lie.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::faults::{Faults, Plan};
use crate::world::{Played, Players, World, config};

fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(work)
}

/// One minute of games around midnight, two archivers, everything goes wrong; then nothing does any more.
async fn history(seed: u64, store: Arc<dyn ObjectStore>) -> usize {
    let world = World::new(store);
    let plan = Plan::Random { fail: 0.06, kill: 0.01 };
    let faults = [Faults::new(seed, plan), Faults::new(seed ^ 0xffff, plan)];
    let archivers = faults.clone().map(|faults| {
        let tables = if faults.pause(1).is_zero() { 3 } else { 5 };
        (config(tables, seed), faults)
    });
    let mut players = Players::new(seed);
    let games: Vec<Played> = world
        .beside(archivers, async {
            let games = players.play_many(&world, 30, 2_000).await;
            for faults in &faults {
                faults.set(Plan::Never);
            }
            world.all_buried().await;
            // Requests that were delayed at the store still land.
            tokio::time::sleep(Duration::from_secs(60)).await;
            games
        })
        .await;
    world.check(&games).await
}

#[test]
fn every_game_is_archived_exactly_once_whatever_happens() {
    for seed in 0..300 {
        let result =
            std::panic::catch_unwind(|| simulate(history(seed, Arc::new(InMemory::new()))));
        let objects = result.unwrap_or_else(|_| panic!("seed {seed} fails"));
        assert!(objects > 1, "seed {seed}");
    }
}

#[test]
fn every_game_is_archived_exactly_once_on_local_files() {
    for seed in 0..10 {
        let directory = tempfile::tempdir().expect("a directory");
        let store = LocalFileSystem::new_with_prefix(directory.path()).expect("a store");
        let result =
            std::panic::catch_unwind(|| simulate(history(seed, Arc::new(store.with_fsync(false)))));
        result.unwrap_or_else(|_| panic!("seed {seed} fails"));
    }
}

#[test]
fn an_archiver_may_be_killed_at_every_step() {
    let mut step = 0;
    loop {
        let reached = simulate(async {
            let world = World::new(Arc::new(InMemory::new()));
            let mut players = Players::new(7);
            let games: Vec<_> = (0..5).map(|_| players.play(&world, 3)).collect();
            let faults = Faults::new(1, Plan::KillAt { step });
            let archiver = (config(2, 1), Arc::clone(&faults));
            world.beside([archiver], world.all_buried()).await;
            world.check(&games).await;
            matches!(faults.plan(), Plan::Never)
        });
        if !reached {
            break;
        }
        step += 1;
    }
    // Three objects of up to two tables: to probe, list, gather, read, write and bury takes this much at least.
    assert!(step > 20, "only {step} steps were tried");
}
