//! The house: keeps tables with bots going, and some with a free seat, so that there is something to see.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::bus::{Bus, LobbyChange, RequestError};
use crate::catalog::{Catalog, Rules};
use crate::domain::{
    CommandId, Identity, Kind, PlayerId, Seating, StartRule, TableId, TableOptions,
};
use crate::protocol::frame::{LobbyEntry, LobbyStatus};
use crate::protocol::request::{AdoptRequest, Adoption, OpenRequest, Verdict, decode, encode};
use crate::protocol::subject;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// How long a worker may take to be there, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const NO_BOTS: &str = "no game here has bots";
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

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
    async fn adopt_leftovers(&self) -> anyhow::Result<Kept> {
        let mut kept = Kept::default();
        let known = |entry: &LobbyEntry| self.catalog.get(&entry.kind).is_some();
        for entry in self.bus.lobby.list().await?.into_iter().filter(known) {
            let request = encode(&AdoptRequest::new(entry.table));
            let answer = self.ask(subject::adopt(&entry.kind), request).await?;
            match (decode(&answer)?, entry.status) {
                (Adoption::Owned { .. }, LobbyStatus::Running) => {
                    kept.running.insert(entry.table, entry.kind);
                }
                (Adoption::Owned { .. }, LobbyStatus::Waiting) => {
                    kept.waiting.insert(entry.table, entry.kind);
                }
                (Adoption::Declined(refusal), _) => {
                    info!(table.id = %entry.table, code = %refusal.code, "a leftover is not taken");
                    self.bus.lobby.remove(entry.table).await?;
                }
            }
        }
        Ok(kept)
    }

    /// Keeps `tables` tables of bots running, and one of each game waiting for a player, until cancelled.
    ///
    /// # Errors
    /// If a table cannot be opened.
    pub(super) async fn keep_open(&self, tables: usize) -> anyhow::Result<()> {
        let mut kept = self.adopt_leftovers().await?;
        let mut changes = self.watch().await;
        loop {
            while kept.running.len() < tables {
                let scarcest = self.playable().min_by_key(|kind| kept.running_of(kind));
                let kind = scarcest.context(NO_BOTS)?;
                kept.running.insert(self.open(kind, Seats::AllBots).await?, kind.clone());
            }
            for kind in self.playable().filter(|_| tables > 0) {
                if !kept.waiting.values().any(|waiting| waiting == kind) {
                    kept.waiting.insert(self.open(kind, Seats::OneOpen).await?, kind.clone());
                }
            }
            match changes.next().await {
                Some(LobbyChange::Removed(table)) => kept.forget(table),
                Some(LobbyChange::Put(entry)) if entry.status == LobbyStatus::Running => {
                    kept.waiting.remove(&entry.table);
                }
                Some(LobbyChange::Put(_)) => {}
                None => changes = self.watch().await,
            }
        }
    }

    /// Plays exactly so many games with bots, some at a time, and says which they were.
    ///
    /// # Errors
    /// If a table cannot be opened.
    pub(super) async fn play(&self, games: usize, at_once: usize) -> anyhow::Result<Vec<TableId>> {
        let mut changes = self.watch().await;
        let mut played = Vec::with_capacity(games);
        let mut kept = Kept::default();
        while played.len() < games || !kept.running.is_empty() {
            while played.len() < games && kept.running.len() < at_once {
                let turn = played.len() % self.playable().count().max(1);
                let kind = self.playable().nth(turn).context(NO_BOTS)?;
                let table = self.open(kind, Seats::AllBots).await?;
                played.push(table);
                kept.running.insert(table, kind.clone());
            }
            match changes.next().await {
                Some(LobbyChange::Removed(table)) => kept.forget(table),
                Some(LobbyChange::Put(_)) => {}
                None => changes = self.watch().await,
            }
        }
        Ok(played)
    }

    /// Watches the list of tables, as soon as it can be watched.
    async fn watch(&self) -> BoxStream<'static, LobbyChange> {
        loop {
            match self.bus.lobby.watch().await {
                Ok(changes) => return changes,
                Err(error) => warn!(%error, "the list of tables cannot be watched"),
            }
            tokio::time::sleep(PAUSE * 10).await;
        }
    }

    /// The games that have bots.
    fn playable(&self) -> impl Iterator<Item = &Kind> {
        self.catalog.rules().filter(|rules| rules.has_bots()).map(|rules| rules.kind())
    }

    /// Opens a table of the house.
    async fn open(&self, kind: &Kind, seats: Seats) -> anyhow::Result<TableId> {
        let rules = self.catalog.get(kind).expect("the kind is out of the catalog");
        let table = self.entropy.table_id(Clock::System.now());
        let request = encode(&self.request(table, &**rules, seats)?);
        let until = Instant::now() + PATIENCE;
        loop {
            match decode(&self.ask(subject::open(kind), request.clone()).await?)? {
                Verdict::Accepted { .. } => return Ok(table),
                Verdict::Rejected(refusal)
                    if refusal.retry_after_ms.is_some() && Instant::now() < until =>
                {
                    warn!(code = %refusal.code, "a table of the house is not open yet");
                    tokio::time::sleep(PAUSE).await;
                }
                Verdict::Rejected(refusal) => {
                    bail!("a table of the house was refused: {}", refusal.message)
                }
            }
        }
    }

    /// Asks a worker. One that has just started may not listen yet.
    async fn ask(&self, subject: String, request: Bytes) -> anyhow::Result<Bytes> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.bus.mail.request(subject.clone(), request.clone(), PATIENCE).await {
                Err(RequestError::NoResponders) if Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer.context("no worker answers"),
            }
        }
    }

    fn request(
        &self,
        table: TableId,
        rules: &dyn Rules,
        seats: Seats,
    ) -> anyhow::Result<OpenRequest> {
        let setup = rules.paced_setup(self.pace);
        let count = rules.seats(&setup).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
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
            by: Identity { player, name: "House".to_owned() },
            id,
            setup,
            options: TableOptions {
                start: StartRule::WhenFull,
                bot_delay_ms: (paced(shortest), paced(longest)),
                ..TableOptions::default()
            },
            seats: seating,
            host: None,
            request: None,
        })
    }
}

/// The tables that the house keeps going.
#[derive(Debug, Default)]
struct Kept {
    running: BTreeMap<TableId, Kind>,
    /// Those with a free seat.
    waiting: BTreeMap<TableId, Kind>,
}

impl Kept {
    fn running_of(&self, kind: &Kind) -> usize {
        self.running.values().filter(|running| *running == kind).count()
    }

    fn forget(&mut self, table: TableId) {
        self.running.remove(&table);
        self.waiting.remove(&table);
    }
}

/// Who is to sit at a table of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seats {
    AllBots,
    OneOpen,
}
