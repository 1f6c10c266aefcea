//! `tablecast archive`: reads completed tables back.

use anyhow::Context;
use clap::{Args, Subcommand};

use super::print;
use crate::archiver::{Reader, StoreConfig};
use crate::domain::TableId;

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
        /// Only tables that ended on this day, as in 2026-11-23 (UTC).
        #[arg(long)]
        date: Option<String>,
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
    let reader = Reader::new(args.store.open()?);
    match args.what {
        What::Ls { date, limit } => ls(&reader, date.as_deref(), limit, args.json).await,
        What::Get { table } => {
            let archived = reader.get(table).await?;
            let archived =
                archived.with_context(|| format!("there is no table {table} in the archive"))?;
            if args.json { print::json(&archived) } else { print::line(&serde_json::to_string_pretty(&archived)?) }
        }
    }
}

async fn ls(reader: &Reader, date: Option<&str>, limit: usize, json: bool) -> anyhow::Result<()> {
    let tables = reader.ls(date, limit).await?;
    if json {
        return tables.iter().try_for_each(print::json);
    }
    let _ = tables;
    Ok(())
}
