//! `tablecast archive`: reads completed tables back.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::print;
use crate::archive::{ListFilter, Purpose, Reader, StoreConfig};
use crate::domain::{Kind, SummarySeat, TableId};
use crate::protocol::archive::{ArchivedTable, Date};

/// Options of `tablecast archive`.
#[derive(Args, Debug)]
pub(super) struct ArchiveArgs {
    #[command(flatten)]
    store: StoreConfig,
    /// One JSON value a line, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists archived tables, newest first.
    Ls {
        /// Only tables archived under this day, as in 2026-11-23 (UTC).
        #[arg(long)]
        date: Option<Date>,
        /// Only tables of this game.
        #[arg(long)]
        kind: Option<Kind>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows one table with every event, hidden facts included.
    Get {
        /// Which table.
        table: TableId,
    },
}

pub(super) async fn run(args: ArchiveArgs) -> anyhow::Result<()> {
    let reader = Reader::new(args.store.open(Purpose::Read)?);
    match args.what {
        What::Ls { date, kind, limit } => {
            ls(&reader, &ListFilter { date, kind }, limit, args.json).await
        }
        What::Get { table } => {
            let archived = reader.get(table).await?;
            let archived =
                archived.with_context(|| format!("there is no table {table} in the archive"))?;
            if args.json { print::json(&archived) } else { show(&archived) }
        }
    }
}

async fn ls(reader: &Reader, filter: &ListFilter, limit: usize, json: bool) -> anyhow::Result<()> {
    let tables = reader.ls(filter, limit).await?;
    if json {
        return tables.iter().try_for_each(print::json);
    }
    let row = |table: &ArchivedTable| {
        let score = |seat: &SummarySeat| {
            let won = if table.winners.contains(&seat.seat) { "*" } else { "" };
            match table.scores.get(seat.seat.index()) {
                Some(score) => format!("{} {score}{won}", seat.name),
                None => seat.name.clone(),
            }
        };
        let players: Vec<String> = table.players.iter().map(score).collect();
        vec![
            table.table_id.to_string(),
            table.kind.to_string(),
            table.status.as_str().to_owned(),
            Date::of(table.ended_at).to_string(),
            table.commits.to_string(),
            players.join(", "),
        ]
    };
    let rows: Vec<_> = tables.iter().map(row).collect();
    print::columns(&["TABLE", "KIND", "STATUS", "ENDED", "COMMITS", "PLAYERS (* WON)"], &rows)
}

/// The summary as an outline, then a line per event.
fn show(table: &ArchivedTable) -> anyhow::Result<()> {
    let mut table = serde_json::to_value(table)?;
    let events = table.as_object_mut().and_then(|fields| fields.remove("events"));
    print::outline(&table)?;
    for event in events.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let columns = ["seq", "actor", "type", "data"].map(|name| print::inline(&event[name]));
        let [seq, actor, kind, data] = columns;
        print::line(&format!("{seq:>5}  {actor:<16} {kind:<24} {data}"))?;
    }
    Ok(())
}
