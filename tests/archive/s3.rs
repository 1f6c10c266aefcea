//! The same on a real S3 store.

use std::sync::Arc;

use clap::Parser;
use object_store::ObjectStore;
use tablecast::archive::{ListFilter, Purpose, Reader, StoreConfig};

use crate::faults::{Faults, Plan};
use crate::weed::{ACCESS_KEY, BUCKET, SECRET_KEY, Weed};
use crate::world::{Players, World, config};

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    store: StoreConfig,
}

fn open(weed: &Weed, prefix: &str, secret: &str, purpose: Purpose) -> Arc<dyn ObjectStore> {
    let url = format!("s3://{BUCKET}/{prefix}");
    let arguments = [
        "test",
        "--store",
        &url,
        "--s3-endpoint",
        weed.endpoint(),
        "--s3-allow-http",
        "--s3-access-key-id",
        ACCESS_KEY,
        "--s3-secret-access-key",
        secret,
    ];
    let options = Options::parse_from(arguments);
    options.store.open(purpose).expect("a store")
}

/// In real time: a server that is not ours does not follow a paused clock.
#[tokio::test]
async fn games_are_archived_once_and_read_back_on_s3() {
    let weed = Weed::start();
    let world = World::with_shards(open(&weed, "a/b", SECRET_KEY, Purpose::Write), 2);
    let mut players = Players::new(5);
    let games: Vec<_> = (0..12).map(|_| players.play(&world, 3)).collect();
    let archivers = [1, 2].map(|seed| (config(3, seed), Faults::new(seed, Plan::Never)));
    world.beside(archivers, world.all_buried()).await;
    world.check(&games).await;

    let reader = Reader::new(open(&weed, "a/b", SECRET_KEY, Purpose::Read));
    for game in &games {
        let row = reader.get(game.address.table).await.expect("readable");
        assert_eq!(row.expect("archived").commits, 3);
    }
    let listed = reader.ls(&ListFilter::default(), 100).await;
    assert_eq!(listed.expect("readable").len(), games.len());

    let elsewhere = Reader::new(open(&weed, "a", SECRET_KEY, Purpose::Read));
    let listed = elsewhere.ls(&ListFilter::default(), 100).await;
    assert_eq!(listed.expect("readable"), []);

    let stranger = Reader::new(open(&weed, "a/b", "guessed", Purpose::Read));
    let refused = stranger.ls(&ListFilter::default(), 1).await;
    refused.expect_err("the signature is wrong");
}
