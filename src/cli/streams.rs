//! `tablecast streams`: what the deployment needs of NATS, and how what is there differs.

use clap::{Args, Subcommand};

use super::print;
use crate::bus::connect::{NatsConfig, client};
use crate::bus::provision::{self, Change, StreamPlan};

/// Options of `tablecast streams`.
#[derive(Args, Debug)]
pub(super) struct StreamsArgs {
    #[command(flatten)]
    pub(super) nats: NatsConfig,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum What {
    /// Shows what `apply` would change.
    Plan,
    /// Creates what is missing and changes what differs.
    Apply,
}

pub(super) async fn run(args: StreamsArgs) -> anyhow::Result<()> {
    let client = client(&args.nats, "tablecast streams").await?;
    let context = provision::context(&client);
    let plans = provision::plan(&context, &args.nats).await?;
    let rows: Vec<Vec<String>> = plans.iter().flat_map(rows).collect();
    print::columns(&["STREAM", "DURABILITY", "CHANGE"], &rows)?;
    match args.what {
        What::Plan => Ok(()),
        What::Apply => Ok(provision::apply(&context, &plans, args.nats.nats_wait).await?),
    }
}

fn rows(plan: &StreamPlan) -> Vec<Vec<String>> {
    let durability = plan.durability.map_or_else(|| "-".to_owned(), |class| class.to_string());
    let row = |change: String| vec![plan.stream.clone(), durability.clone(), change];
    match &plan.change {
        Change::Nothing => vec![row("none".to_owned())],
        Change::Create(_) => vec![row("create".to_owned())],
        Change::Update { differences, .. } => differences
            .iter()
            .map(|difference| {
                let (field, found) = (&difference.field, &difference.found);
                row(format!("{field}: {found} becomes {}", difference.wanted))
            })
            .collect(),
    }
}
