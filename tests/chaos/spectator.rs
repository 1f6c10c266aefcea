//! A spectator: follows many tables over one connection, by their commits.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use serde_json::json;
use tablecast::domain::TableId;
use tokio::sync::watch;
use tokio::time::{interval, sleep};

use crate::checker::history::Notebook;
use crate::client::{Client, PING_EVERY};
use crate::notes::Notes;
use crate::player::{Placed, Shared};

/// A spectator.
pub(crate) struct Spectator {
    pub(crate) name: String,
    pub(crate) places: Vec<watch::Receiver<Option<Placed>>>,
    pub(crate) dice: ChaCha20Rng,
    pub(crate) shared: Shared,
}

impl Spectator {
    /// Watches until all go home.
    pub(crate) async fn run(mut self) -> Notebook {
        let mut notes = Notes::new(self.name.clone(), self.shared.cursors.clone());
        let stop = self.shared.stop.clone();
        while !stop.is_cancelled() {
            let all = self.shared.gateways.all();
            let index = self.dice.random_range(0..all.len().max(1));
            let mut followed = BTreeSet::new();
            if let Some((_, address)) = all.get(index)
                && let Ok(client) = Client::connect(*address, None).await
            {
                notes.book.connections += 1;
                tokio::select! {
                    _lost = self.session(client, &mut notes, &mut followed) => {}
                    () = stop.cancelled() => {}
                }
            }
            notes.lost(&followed.into_iter().collect::<Vec<_>>());
            sleep(Duration::from_millis(self.dice.random_range(50..300))).await;
        }
        notes.book
    }

    async fn session(
        &mut self,
        mut client: Client,
        notes: &mut Notes,
        followed: &mut BTreeSet<TableId>,
    ) -> anyhow::Result<()> {
        let mut ping = interval(PING_EVERY);
        let mut look = interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                frame = client.next() => {
                    let frame = frame?;
                    let is_over = frame.head.r#type == "unsubscribed";
                    if let Some(table) = notes.take(&frame) && is_over {
                        followed.remove(&table);
                        if frame.head.reason.as_deref() == Some("archived") {
                            notes.done_with(table);
                        }
                    }
                }
                _ = ping.tick() => client.send(&json!({ "type": "ping" })).await?,
                _ = look.tick() => self.look(&mut client, notes, followed).await?,
            }
        }
    }

    /// Follows the tables that are played, and no others.
    async fn look(
        &mut self,
        client: &mut Client,
        notes: &mut Notes,
        followed: &mut BTreeSet<TableId>,
    ) -> anyhow::Result<()> {
        let offered = self.places.iter().filter_map(|place| *place.borrow());
        let offered: BTreeSet<TableId> = offered.map(|placed| placed.table).collect();
        for table in followed.difference(&offered) {
            notes.done_with(*table);
            client.send(&json!({ "type": "unsubscribe", "table": table })).await?;
        }
        for table in offered.difference(followed) {
            let cursor = notes.subscribing(*table);
            client.send(&json!({ "type": "subscribe", "table": table, "cursor": cursor })).await?;
        }
        *followed = offered;
        Ok(())
    }
}
