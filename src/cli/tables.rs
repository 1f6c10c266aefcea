//! `tablecast tables`: what an operator sees of tables that are open or running.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures_util::StreamExt;

use super::relay::RelayArgs;
use super::{Role, print};
use crate::bus::connect::{NatsConfig, connect};
use crate::bus::{Bus, Entry, Stored};
use crate::catalog::{Catalog, Replica};
use crate::domain::{Seat, StreamSeq, TableId, Viewer};
use crate::protocol::envelope::{Envelope, Message};
use crate::protocol::frame::{Format, LobbyEntry, LobbyStatus};
use crate::protocol::relay;

/// Options of `tablecast tables`.
#[derive(Args, Debug)]
pub(super) struct TablesArgs {
    #[command(flatten)]
    pub(super) nats: NatsConfig,
    /// One JSON value a line, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    relay: RelayArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists open and running tables.
    Ls,
    /// Shows one table as it is.
    Show(Target),
    /// Shows one table's commits as they come, from the first.
    Tail(Target),
}

#[derive(Args, Debug)]
struct Target {
    /// Which table.
    table: TableId,
    /// Through the eyes of this seat. Without it: as a spectator.
    #[arg(long)]
    seat: Option<u8>,
    /// Everything that happened, hidden facts included: for operators only.
    #[arg(long, conflicts_with = "seat")]
    secrets: bool,
}

impl Target {
    fn viewer(&self) -> Viewer {
        self.seat.map_or(Viewer::Spectator, |seat| Viewer::Seated(Seat(seat)))
    }
}

pub(super) async fn run(args: TablesArgs, role: Role) -> anyhow::Result<()> {
    let bus = connect(&args.nats, "tablecast tables").await?;
    let catalog = args.relay.add_to(role.catalog)?;
    match args.what {
        What::Ls => ls(&bus, args.json).await,
        What::Show(target) => show(&bus, &catalog, &target, args.json).await,
        What::Tail(target) => {
            tokio::select! {
                result = tail(&bus, &catalog, &target, args.json) => result,
                () = role.stop.cancelled() => Ok(()),
            }
        }
    }
}

async fn ls(bus: &Bus, json: bool) -> anyhow::Result<()> {
    let tables = bus.lobby.list().await?;
    if json {
        return tables.iter().try_for_each(print::json);
    }
    let row = |entry: &LobbyEntry| {
        let status = match entry.status {
            LobbyStatus::Waiting => "waiting",
            LobbyStatus::Running => "running",
        };
        let names = entry.seats.iter().map(|seat| match seat.name.as_str() {
            "" => "(open)",
            name => name,
        });
        let seats = names.collect::<Vec<_>>().join(", ");
        vec![entry.table.to_string(), entry.kind.to_string(), status.to_owned(), seats]
    };
    let rows: Vec<_> = tables.iter().map(row).collect();
    print::columns(&["TABLE", "KIND", "STATUS", "SEATS"], &rows)
}

async fn entries(bus: &Bus, table: TableId) -> anyhow::Result<Vec<Entry>> {
    let entries = bus.log.read(table, StreamSeq::ZERO).await?;
    if entries.is_empty() {
        bail!("there is no table {table} in the event log: an older one may be in the archive");
    }
    if entries.iter().any(|entry| entry.what == Stored::Tombstone) {
        bail!("table {table} is over and in the archive: see `tablecast archive get {table}`");
    }
    Ok(entries)
}

async fn show(bus: &Bus, catalog: &Catalog, target: &Target, json: bool) -> anyhow::Result<()> {
    let mut shown = Shown::new(catalog, target.table);
    let entries = entries(bus, target.table).await?;
    for entry in &entries {
        shown.fold(entry)?;
    }
    if target.secrets {
        let commits = entries.iter().filter_map(|entry| secrets(catalog, target.table, entry));
        return commits.into_iter().try_for_each(|commit| print_commit(&commit, json));
    }
    let Some(replica) = shown.replica else {
        bail!("no commit of table {} can be read", target.table);
    };
    let snapshot = replica.snapshot(target.viewer(), Format::Json);
    let snapshot: serde_json::Value = serde_json::from_slice(&snapshot)?;
    if json { print::json(&snapshot) } else { print::outline(&snapshot) }
}

async fn tail(bus: &Bus, catalog: &Catalog, target: &Target, json: bool) -> anyhow::Result<()> {
    let mut shown = Shown::new(catalog, target.table);
    let mut live = bus.log.follow(target.table).await?;
    let mut last = StreamSeq::ZERO;
    for entry in entries(bus, target.table).await? {
        last = entry.seq;
        shown.print(&entry, target, json)?;
    }
    while let Some(entry) = live.next().await {
        if entry.seq <= last {
            continue;
        }
        // What a busy connection missed is in the log.
        let missed = if entry.previous == last || entry.what == Stored::Tombstone {
            vec![entry]
        } else {
            bus.log.read(target.table, last.next()).await?
        };
        for entry in missed {
            last = entry.seq;
            if entry.what == Stored::Tombstone {
                return Ok(());
            }
            shown.print(&entry, target, json)?;
        }
    }
    Ok(())
}

/// A table being folded for the screen.
struct Shown<'a> {
    catalog: &'a Catalog,
    table: TableId,
    replica: Option<Box<dyn Replica>>,
}

impl<'a> Shown<'a> {
    fn new(catalog: &'a Catalog, table: TableId) -> Self {
        Self { catalog, table, replica: None }
    }

    fn fold(
        &mut self,
        entry: &Entry,
    ) -> anyhow::Result<Option<std::sync::Arc<dyn crate::catalog::FannedOut>>> {
        let folded = match &mut self.replica {
            Some(replica) => replica.fold(&entry.payload, entry.stored_at),
            None => {
                let kind = &entry.address.kind;
                let rules = self.catalog.get(kind).with_context(|| {
                    format!("this binary does not know the game {kind}: use --secrets")
                })?;
                rules.replica(self.table, &entry.payload, entry.stored_at).map(
                    |(replica, first)| {
                        self.replica = Some(replica);
                        first
                    },
                )
            }
        };
        match folded {
            Ok(commit) => Ok(Some(commit)),
            Err(reason) => {
                tracing::warn!(stream_seq = entry.seq.get(), %reason, "skipped a message that is no commit");
                Ok(None)
            }
        }
    }

    fn print(&mut self, entry: &Entry, target: &Target, json: bool) -> anyhow::Result<()> {
        let value = if target.secrets {
            secrets(self.catalog, self.table, entry)
        } else {
            let frame = self.fold(entry)?.map(|commit| commit.frame(target.viewer(), Format::Json));
            frame.map(|frame| serde_json::from_slice(&frame)).transpose()?
        };
        value.map_or(Ok(()), |commit| print_commit(&commit, json))
    }
}

/// A commit with everything in it; nothing if the message is none.
fn secrets(catalog: &Catalog, table: TableId, entry: &Entry) -> Option<serde_json::Value> {
    if catalog.get(&entry.address.kind).is_some_and(|rules| rules.is_relayed()) {
        return relay::unchecked(&entry.payload);
    }
    let envelope = Envelope::<serde_json::Value>::decode(&entry.payload, table).ok()?;
    serde_json::to_value(envelope.commit).ok()
}

fn print_commit(commit: &serde_json::Value, json: bool) -> anyhow::Result<()> {
    if json { print::json(commit) } else { print::commit(commit) }
}
