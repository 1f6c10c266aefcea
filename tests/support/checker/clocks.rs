//! Clocks add up: nobody's time runs out before it has, no time is given back twice, and none is charged during
//! which a table had no owner.

use std::collections::HashMap;

use serde_json::Value;
use tablecast::domain::TableId;

use super::log::{Commit, Entry, TableLog};
use super::{Evidence, Findings};
use crate::scripts::{self, Clocks};

const LIMIT: &str = "time runs out no earlier than it may";
const TWICE: &str = "no time is given back twice, and none from before the turn";
const GAME: &str = "the clocks of a game add up";
const UNFAIR: &str = "no time is charged while a table has no owner";

/// The clocks of a worker that dies and of whoever kills it are read at different moments.
const SLACK_MS: u64 = 20;

pub(crate) fn check(evidence: &Evidence, findings: &mut Findings) {
    for (id, table) in &evidence.log.tables {
        let clocks = scripts::of(table.kind.as_str()).and_then(|script| script.clocks());
        let mut reader = Reader {
            limit: turn_limit(table),
            clocks,
            deaths: &evidence.deaths,
            turn: Turn::default(),
            credited_to: 0,
            last: None,
        };
        for entry in &table.entries {
            reader.take(*id, entry, findings);
        }
    }
}

/// `turn_limit_ms` of the opening.
fn turn_limit(table: &TableLog) -> Option<u64> {
    let opened = table.entries.first()?.commit.events.first()?;
    opened["options"]["turn_limit_ms"].as_u64()
}

struct Reader<'a> {
    limit: Option<u64>,
    /// The game's own.
    clocks: Option<Box<dyn Clocks>>,
    deaths: &'a HashMap<String, u64>,
    turn: Turn,
    /// Up to when time was given back.
    credited_to: u64,
    last: Option<&'a Entry>,
}

/// The time since the game last moved.
#[derive(Default)]
struct Turn {
    since: Option<u64>,
    credit: u64,
    /// Time without an owner, as whoever killed it knows.
    ownerless: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, id: TableId, entry: &'a Entry, findings: &mut Findings) {
        let commit = &entry.commit;
        if commit.has("table.claimed")
            && let Some(last) = self.last
            && let Some(died) = self.deaths.get(&last.worker)
            && *died >= last.commit.at
        {
            self.turn.ownerless += commit.at.saturating_sub(*died);
        }
        for event in &commit.events {
            self.event(id, commit, event, findings);
        }
        if commit.moves_the_game() || commit.has("table.started") {
            self.turn = Turn { since: Some(commit.at), ..Turn::default() };
        }
        self.last = Some(entry);
    }

    fn event(&mut self, id: TableId, commit: &Commit, event: &Value, findings: &mut Findings) {
        let seq = commit.seq;
        if event["type"] == "table.credited" {
            let ms = event["ms"].as_u64().unwrap_or_default();
            let from = commit.at.saturating_sub(ms);
            let earliest = self.credited_to.max(self.turn.since.unwrap_or_default());
            if from < earliest {
                let what = format!("commit {seq} gives {ms} ms back, from {from} on: {earliest}");
                findings.broken(TWICE, id, what);
            }
            findings.count("times given back", 1);
            findings.count("milliseconds given back", ms);
            self.credited_to = commit.at;
            self.turn.credit += ms;
            if let Some(clocks) = &mut self.clocks {
                clocks.credit(ms);
            }
        }
        if commit.cause["type"] == "clock" && is_decision(event) {
            self.limit_ran_out(id, commit, findings);
        }
        if let Some(clocks) = &mut self.clocks {
            let ran_out = clocks.run_out(event, commit.at);
            findings.count("flags that fell", u64::from(ran_out.is_some()));
            let read = ran_out.unwrap_or(Ok(())).and(clocks.read(event));
            if let Err(what) = read {
                findings.broken(GAME, id, format!("commit {seq}: {what}"));
            }
        }
    }

    fn limit_ran_out(&self, id: TableId, commit: &Commit, findings: &mut Findings) {
        let (Some(limit), Some(since)) = (self.limit, self.turn.since) else { return };
        let (seq, Turn { credit, ownerless, .. }) = (commit.seq, &self.turn);
        findings.count("turn limits that ran out", 1);
        let took = commit.at.saturating_sub(since);
        if took < limit + credit {
            let what = format!("commit {seq}: {took} ms passed of {limit}, {credit} given back");
            findings.broken(LIMIT, id, what);
        }
        if took + SLACK_MS < limit + ownerless {
            let what = format!(
                "commit {seq}: {took} ms passed of {limit}, {ownerless} of them without an owner"
            );
            findings.broken(UNFAIR, id, what);
        }
    }
}

/// What a seat decides, and a limit on thinking decides for it. Everything else a clock brings about belongs to
/// the rules: pauses, the time to say whether one wants another deal.
fn is_decision(event: &Value) -> bool {
    let decisions = ["declaration_made", "pieces_played"];
    event["type"].as_str().is_some_and(|name| decisions.contains(&name))
}
