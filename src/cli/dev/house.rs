//! The house: keeps tables with bots going, and one with a free seat, so that there is something to see.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use tracing::{info, warn};

use crate::bus::{Bus, LobbyChange, RequestError};
use crate::catalog::{Catalog, Rules};
use crate::domain::{
    CommandId, Identity, Kind, PlayerId, Seating, StartRule, TableId, TableOptions,
};
use crate::protocol::frame::LobbyStatus;
use crate::protocol::request::{AdoptRequest, Adoption, OpenRequest, Verdict, decode, encode};
use crate::protocol::subject;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// How long a worker may take to open a table.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// Who opens tables so that people have some.
#[derive(Debug)]
pub(super) struct House {
    pub(super) bus: Bus,
    pub(super) catalog: Catalog,
    pub(super) entropy: Entropy,
    /// Scales bots' waits and display pauses.
    pub(super) pace: f64,
}

impl House {
    /// Takes over what an earlier run left behind, so that it is played to its end.
    ///
    /// # Errors
    /// If the bus is closed.
    pub(super) async fn adopt_leftovers(&self) -> anyhow::Result<BTreeSet<TableId>> {
        let mut running = BTreeSet::new();
        for entry in self.bus.lobby.list().await? {
            let request = encode(&AdoptRequest { table: entry.table });
            let answer = self
                .bus
                .mail
                .request(subject::adopt(&entry.kind), request, OPEN_MAX)
                .await?;
            match decode(&answer)? {
                Adoption::Owned { .. } if entry.status == LobbyStatus::Running => {
                    running.insert(entry.table);
                }
                Adoption::Owned { .. } => {}
                Adoption::Declined(refusal) => {
                    info!(table.id = %entry.table, code = %refusal.code, "a leftover is not taken");
                    self.bus.lobby.remove(entry.table).await?;
                }
            }
        }
        Ok(running)
    }

    /// Keeps `tables` tables of bots running, and one waiting for a player, until cancelled.
    ///
    /// # Errors
    /// If a table cannot be opened.
    pub(super) async fn keep_open(&self, tables: usize) -> anyhow::Result<()> {
        let mut changes = self.bus.lobby.watch().await?;
        let mut ours = self.adopt_leftovers().await?;
        let mut waiting: Option<TableId> = None;
        loop {
            while ours.len() < tables {
                ours.insert(self.open(Seats::AllBots, ours.len()).await?);
            }
            if waiting.is_none() && tables > 0 {
                waiting = Some(self.open(Seats::OneOpen, 0).await?);
            }
            match changes.next().await {
                Some(LobbyChange::Removed(table)) => {
                    ours.remove(&table);
                    if waiting == Some(table) {
                        waiting = None;
                    }
                }
                Some(LobbyChange::Put(entry)) => {
                    if waiting == Some(entry.table) && entry.status == LobbyStatus::Running {
                        waiting = None;
                    }
                }
                None => bail!("the list of tables cannot be watched any more"),
            }
        }
    }

    /// Plays exactly so many games with bots, some at a time, and says which they were.
    ///
    /// # Errors
    /// If a table cannot be opened.
    pub(super) async fn play(&self, games: usize, at_once: usize) -> anyhow::Result<Vec<TableId>> {
        let mut changes = self.bus.lobby.watch().await?;
        let mut played = Vec::with_capacity(games);
        let mut running = BTreeSet::new();
        while played.len() < games || !running.is_empty() {
            while played.len() < games && running.len() < at_once {
                let table = self.open(Seats::AllBots, played.len()).await?;
                played.push(table);
                running.insert(table);
            }
            match changes.next().await {
                Some(LobbyChange::Removed(table)) => {
                    running.remove(&table);
                }
                Some(LobbyChange::Put(_)) => {}
                None => bail!("the list of tables cannot be watched any more"),
            }
        }
        Ok(played)
    }

    /// Opens a table of the house. `turn` goes through the games that have bots.
    async fn open(&self, seats: Seats, turn: usize) -> anyhow::Result<TableId> {
        let playable: Vec<&Kind> = self
            .catalog
            .kinds()
            .filter(|kind| self.catalog.get(kind).is_some_and(|rules| rules.has_bots()))
            .collect();
        let kind = playable
            .get(turn % playable.len().max(1))
            .context("no game here has bots")?;
        let rules = self
            .catalog
            .get(kind)
            .expect("the kind is out of the catalog");
        let table = self.entropy.table_id(Clock::System.now());
        let request = encode(&self.request(table, &**rules, seats)?);
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self
                .bus
                .mail
                .request(subject::open(kind), request.clone(), OPEN_MAX)
                .await;
            match answer {
                Ok(answer) => match decode(&answer)? {
                    Verdict::Accepted { .. } => return Ok(table),
                    Verdict::Rejected(refusal)
                        if refusal.retry_after_ms.is_some() && tries < 20 =>
                    {
                        warn!(code = %refusal.code, "a table of the house is not open yet");
                    }
                    Verdict::Rejected(refusal) => {
                        bail!("a table of the house was refused: {}", refusal.message)
                    }
                },
                // A worker that has just started may not listen yet.
                Err(RequestError::NoResponders) if tries < 50 => {}
                Err(error) => return Err(error).context("no worker opens a table"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn request(
        &self,
        table: TableId,
        rules: &dyn Rules,
        seats: Seats,
    ) -> anyhow::Result<OpenRequest> {
        let setup = rules.paced_setup(self.pace);
        let count = rules
            .seats(&setup)
            .map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let mut seating = vec![Seating::Bot; usize::from(count)];
        if seats == Seats::OneOpen {
            seating[0] = Seating::Open;
        }
        let (shortest, longest) = TableOptions::default().bot_delay_ms;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few seconds"
        )]
        let paced = |millis: u32| (f64::from(millis) * self.pace).round() as u32;
        let player: PlayerId = "house".parse()?;
        let id: CommandId = "open".parse()?;
        Ok(OpenRequest {
            table,
            by: Identity {
                player,
                name: "House".to_owned(),
            },
            id,
            setup,
            options: TableOptions {
                start: StartRule::WhenFull,
                bot_delay_ms: (paced(shortest), paced(longest)),
                ..TableOptions::default()
            },
            seats: seating,
            host: None,
        })
    }
}

/// Who is to sit at a table of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seats {
    AllBots,
    OneOpen,
}
