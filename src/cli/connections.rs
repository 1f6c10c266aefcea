//! `tablecast connections`: which connections of all gateways are throttled, conflated or behind, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::print;
use crate::bus::Bus;
use crate::bus::connect::{NatsConfig, connect};
use crate::protocol::ops::{ConnectionLine, ConnectionsReport, ConnectionsRequest};
use crate::protocol::request::{GatewayBeat, decode, encode};
use crate::protocol::subject;
use crate::runtime::entropy::Entropy;

/// How long it is listened for gateways: nearly three of their beats.
const HEARD_WITHIN: Duration = Duration::from_millis(700);

/// Options of `tablecast connections`.
#[derive(Args, Debug)]
pub(super) struct ConnectionsArgs {
    #[command(flatten)]
    pub(super) nats: NatsConfig,
    /// How many connections are listed, the worst first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// The connections of this player only, however well they stand.
    #[arg(long)]
    player: Option<String>,
    /// How long gateways have to answer.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// One JSON value a line, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ConnectionsArgs) -> anyhow::Result<()> {
    let bus = connect(&args.nats, "tablecast connections").await?;
    let Answers { reports, silent } = ask(&bus, &args).await?;
    let mut worst: Vec<(&str, &ConnectionLine)> = reports
        .values()
        .flat_map(|report| report.worst.iter().map(|line| (report.gateway.as_str(), line)))
        .collect();
    worst.sort_by_cached_key(|(_, line)| std::cmp::Reverse(line.badness()));
    worst.truncate(usize::try_from(args.limit)?);
    if args.json {
        print_json(&worst, &reports)?;
    } else {
        print_tables(&worst, &reports)?;
    }
    if !silent.is_empty() {
        let silent: Vec<&str> = silent.iter().map(String::as_str).collect();
        bail!("no answer from these gateways: {}", silent.join(", "));
    }
    if reports.is_empty() {
        bail!("no gateway was heard: is one running on this NATS?");
    }
    Ok(())
}

struct Answers {
    reports: BTreeMap<String, ConnectionsReport>,
    /// Gateways that are alive and have not answered.
    silent: BTreeSet<String>,
}

/// Asks once, and waits for the answer of everyone who is heard to be alive.
async fn ask(bus: &Bus, args: &ConnectionsArgs) -> anyhow::Result<Answers> {
    let token = format!("{:032x}", u128::from_le_bytes(Entropy::from_os().bytes()));
    let mut answers = bus.mail.listen(subject::ops_answer(&token)).await?;
    let mut beats = bus.mail.listen(subject::GATES.to_owned()).await?;
    let (limit, player) = (args.limit, args.player.clone());
    let question = encode(&ConnectionsRequest { answer_to: token, limit, player });
    bus.mail.notify(subject::OPS_CONNECTIONS.to_owned(), question).await?;
    let asked = Instant::now();
    let (heard_by, deadline) = (asked + HEARD_WITHIN, asked + args.wait.max(HEARD_WITHIN));
    let mut alive = BTreeSet::new();
    let mut reports = BTreeMap::<String, ConnectionsReport>::new();
    loop {
        let has_all = alive.iter().all(|gateway| reports.contains_key(gateway));
        let until = if has_all { heard_by } else { deadline };
        tokio::select! {
            biased;
            answer = answers.next() => {
                let answer = answer.context("the connection to NATS is lost")?;
                let report: ConnectionsReport = decode(&answer)?;
                reports.insert(report.gateway.clone(), report);
            }
            beat = beats.next() => {
                let beat = beat.context("the connection to NATS is lost")?;
                let GatewayBeat { gateway, goodbye } = decode(&beat)?;
                if goodbye {
                    alive.remove(&gateway);
                } else {
                    alive.insert(gateway);
                }
            }
            () = sleep_until(until) => break,
        }
    }
    alive.retain(|gateway| !reports.contains_key(gateway));
    Ok(Answers { reports, silent: alive })
}

fn print_json(
    worst: &[(&str, &ConnectionLine)],
    reports: &BTreeMap<String, ConnectionsReport>,
) -> anyhow::Result<()> {
    for (gateway, line) in worst {
        let mut value = serde_json::to_value(line)?;
        value["type"] = json!("connection");
        value["gateway"] = json!(gateway);
        print::json(&value)?;
    }
    for report in reports.values() {
        let mut value = serde_json::to_value(report)?;
        value["type"] = json!("gateway");
        if let Value::Object(fields) = &mut value {
            fields.remove("worst");
        }
        print::json(&value)?;
    }
    Ok(())
}

fn print_tables(
    worst: &[(&str, &ConnectionLine)],
    reports: &BTreeMap<String, ConnectionsReport>,
) -> anyhow::Result<()> {
    let rows: Vec<_> = worst.iter().map(|(gateway, line)| connection_row(gateway, line)).collect();
    if !rows.is_empty() {
        let head = [
            "GATEWAY",
            "CONNECTION",
            "PLAYER",
            "ADDRESS",
            "TABLES",
            "WAITING",
            "BYTES",
            "CONFLATED",
            "THROTTLED IN",
            "OUT",
            "BEHIND",
            "BLOCKED",
            "WHY",
        ];
        print::columns(&head, &rows)?;
        print::line("")?;
    }
    let rows: Vec<_> = reports.values().map(gateway_row).collect();
    let head = [
        "GATEWAY",
        "CONNECTIONS",
        "BEHIND",
        "WAITING",
        "BYTES",
        "CONFLATED",
        "THROTTLED IN",
        "OUT",
    ];
    print::columns(&head, &rows)
}

fn connection_row(gateway: &str, line: &ConnectionLine) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        gateway.to_owned(),
        line.connection.to_string(),
        text(&line.player),
        text(&line.address),
        line.tables.to_string(),
        line.frames.to_string(),
        line.bytes.to_string(),
        line.conflated.to_string(),
        line.throttled_in.to_string(),
        line.throttled_out.to_string(),
        duration(line.behind_ms),
        duration(line.blocked_ms),
        text(&line.why),
    ]
}

fn gateway_row(report: &ConnectionsReport) -> Vec<String> {
    let counts = [
        report.connections,
        report.behind,
        report.frames,
        report.bytes,
        report.conflated,
        report.throttled_in,
        report.throttled_out,
    ];
    let counts = counts.map(|count| count.to_string());
    std::iter::once(report.gateway.clone()).chain(counts).collect()
}

/// To a tenth of a second.
fn duration(millis: Option<u64>) -> String {
    match millis {
        Some(millis) => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        None => "-".to_owned(),
    }
}
