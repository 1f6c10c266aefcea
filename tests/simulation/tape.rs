//! Every message that the streams have ever held: archived games leave them.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tablecast::bus::{Entry, Stored as Is};
use tablecast::domain::{StreamSeq, TableId};

use crate::checker::log::{Log, Stored, What};
use crate::world::World;

/// The messages, as they were stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<Stored>>>);

impl Tape {
    /// Writes down what is stored of a table from now on.
    pub(crate) async fn follow(&self, world: &World, table: TableId) {
        let entries = world.observer.log.follow(table).await.expect("nothing breaks here");
        let (tape, world) = (self.clone(), world.clone());
        world.tasks.clone().spawn(async move {
            let mut entries = entries.take_until(world.over.clone().cancelled_owned()).boxed();
            while let Some(entry) = entries.next().await {
                tape.take(&world, &entry);
            }
        });
    }

    pub(crate) fn watch_markers(&self, world: &World) {
        for shard in 0..world.observer.log.shards().get() {
            let (tape, world) = (self.clone(), world.clone());
            world.tasks.clone().spawn(async move {
                let markers = world.observer.log.markers(shard, StreamSeq::ZERO).await;
                let markers = markers.expect("nothing breaks here");
                let mut markers = markers.take_until(world.over.clone().cancelled_owned()).boxed();
                while let Some(marker) = markers.next().await {
                    tape.take(&world, &marker.expect("nothing breaks here"));
                }
            });
        }
    }

    fn take(&self, world: &World, entry: &Entry) {
        let what = match entry.what {
            Is::Commit => What::Commit,
            Is::Marker => What::Marker,
            Is::Tombstone => What::Tombstone,
        };
        let worker = entry.worker.as_ref().map(ToString::to_string);
        world.trace.line(format_args!(
            "log {} {:?} {} by {worker:?} stored {}: {}",
            entry.seq.get(),
            what,
            entry.address,
            entry.stored_at.as_millis(),
            entry.payload.escape_ascii()
        ));
        self.0.lock().expect("unbroken").push(Stored {
            stream_seq: entry.seq.get(),
            subject: entry.address.evt(),
            table: entry.address.table,
            kind: entry.address.kind.clone(),
            what,
            types: String::new(),
            worker,
            stored_ms: entry.stored_at.as_millis(),
            payload: entry.payload.clone(),
        });
    }

    /// Whether every table that was opened is over and in the archive.
    pub(crate) fn is_all_archived(&self) -> bool {
        let log = self.log();
        log.tables.values().all(|table| table.has_ended() && table.is_buried)
    }

    pub(crate) fn log(&self) -> Log {
        let stored = self.0.lock().expect("unbroken");
        // Positions are those of a shard; a table's are in order either way.
        Log::of(&stored)
    }
}
