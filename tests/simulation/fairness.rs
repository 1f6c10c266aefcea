//! Clocks, by the time that really passed: nobody's limit runs out early, and no more is given back than was lost.

use std::collections::BTreeSet;

use serde_json::Value;
use tablecast::domain::TableId;

use crate::checker::log::TableLog;
use crate::checker::{Evidence, Findings};
use crate::node::Node;
use crate::world::World;

const LIMIT: &str = "the limit of a game runs out no earlier than it may, and once";
const DEAD: &str = "no time is charged while a table has no owner";

/// Timers are no finer than a millisecond, and a beat may be on its way when its worker dies.
const SLACK_MS: u64 = 20;

pub(crate) fn check(evidence: &Evidence, world: &World, findings: &mut Findings) {
    let tables = evidence.log.tables.iter();
    for (id, table) in tables.filter(|(_, table)| table.kind.as_str() == "pebbles") {
        limits(*id, table, findings);
        deaths(*id, table, evidence, world, findings);
        claims(*id, table, world, findings);
    }
}

/// By the times that the log has: deadline plus what was given back.
fn limits(id: TableId, table: &TableLog, findings: &mut Findings) {
    let mut take_by: Option<u64> = None;
    for entry in &table.entries {
        let commit = &entry.commit;
        let mut taken = 0;
        for event in &commit.events {
            match event["type"].as_str().unwrap_or_default() {
                "table.credited" => {
                    let ms = event["ms"].as_u64().unwrap_or_default();
                    take_by = take_by.map(|at| at + ms);
                }
                "taken" => {
                    taken += 1;
                    if commit.cause["type"] == "clock"
                        && take_by.is_some_and(|at| commit.at < at)
                        && turn_limit(table).is_none()
                    {
                        let what = format!("commit {} at {}: {take_by:?}", commit.seq, commit.at);
                        findings.broken(LIMIT, id, what);
                    }
                    take_by = event["take_by"].as_u64();
                }
                "poured" => take_by = event["take_by"].as_u64(),
                _ => {}
            }
        }
        if taken > 1 {
            let what = format!("commit {} takes {taken} times", commit.seq);
            findings.broken(LIMIT, id, what);
        }
    }
}

fn turn_limit(table: &TableLog) -> Option<u64> {
    opening(table)?["options"]["turn_limit_ms"].as_u64()
}

fn game_limit(table: &TableLog) -> Option<u64> {
    opening(table)?["setup"]["limit_ms"].as_u64()
}

fn opening(table: &TableLog) -> Option<&Value> {
    table.entries.first()?.commit.events.first()
}

/// By the time that really passed: from turn to turn, less the time from an owner's death to the next claim.
fn deaths(
    id: TableId,
    table: &TableLog,
    evidence: &Evidence,
    world: &World,
    findings: &mut Findings,
) {
    let Some(limit) = turn_limit(table).into_iter().chain(game_limit(table)).min() else {
        return;
    };
    let skew = if world.plan.is_skewed { 2 * Node::SKEW_MAX_MS } else { 0 };
    let (mut since, mut ownerless) = (None, 0);
    let mut last: Option<(&str, u64)> = None;
    for entry in &table.entries {
        let (commit, stored) = (&entry.commit, entry.stored_ms);
        if commit.has("table.claimed")
            && let Some((worker, before)) = last
            && let Some(died) = evidence.deaths.get(worker)
        {
            ownerless += commit.at.saturating_sub(*died.max(&before));
        }
        last = Some((&entry.worker, stored));
        if !commit.moves_the_game() && !commit.has("table.started") {
            continue;
        }
        if commit.cause["type"] == "clock"
            && commit.has("taken")
            && let Some(since) = since
        {
            findings.count("limits of pebbles that ran out", 1);
            let took = commit.at.saturating_sub(since);
            if took + SLACK_MS + skew < limit + ownerless {
                let what = format!(
                    "commit {}: {took} ms passed of {limit}, {ownerless} without an owner",
                    commit.seq
                );
                findings.broken(DEAD, id, what);
            }
        }
        // The wait for the log is the players' up to a second.
        let was_slow = stored.saturating_sub(commit.at) >= 1_000;
        (since, ownerless) = (Some(if was_slow { stored } else { commit.at }), 0);
    }
}

const TOO_MUCH: &str = "no more time is given back than a table was without its owner";

/// A beat in four a second, and its way.
const UNHEARD_MS: u64 = 600;

/// A claim gives back the time since its table's owner was last heard, or has last moved the table.
fn claims(id: TableId, table: &TableLog, world: &World, findings: &mut Findings) {
    let troubles = world.troubles.lock().expect("unbroken");
    let of = |worker: &str| troubles.get(worker).cloned().unwrap_or_default();
    // Seats whose clocks may stand because a door is lost: their time is given back as well.
    let mut lost = BTreeSet::new();
    for pair in table.entries.windows(2) {
        let (last, claim) = (&pair[0], &pair[1].commit);
        last.commit.events.iter().for_each(|event| note_lost(&mut lost, event));
        let credit = claim.events.iter().find(|event| event["reason"] == "no_owner");
        let (Some(credit), true) = (credit, claim.has("table.claimed")) else { continue };
        let was_slow = last.stored_ms.saturating_sub(last.commit.at) >= 1_000;
        let claimer = of(&pair[1].worker);
        let started = world.started.lock().expect("unbroken").get(&pair[1].worker).copied();
        // Whoever could not hear the owner goes by the owner's last commit.
        let could_hear = claimer.iter().all(|at| *at > claim.at)
            && started.is_some_and(|at| at + UNHEARD_MS < last.stored_ms);
        if was_slow || !lost.is_empty() || !could_hear {
            continue;
        }
        findings.count("claims that gave time back", 1);
        let from = claim.at.saturating_sub(credit["ms"].as_u64().unwrap_or_default());
        let trouble = of(&last.worker).into_iter().filter(|at| *at >= last.stored_ms).min();
        let well_until = trouble.unwrap_or(claim.at).min(claim.at);
        let skew = if world.plan.is_skewed { 2 * Node::SKEW_MAX_MS } else { 0 };
        if from + UNHEARD_MS + skew < well_until {
            let (seq, owner) = (claim.seq, &last.worker);
            let what = format!("commit {seq} from {from} on, {owner} was well until {well_until}");
            findings.broken(TOO_MUCH, id, what);
        }
    }
}

fn note_lost(lost: &mut BTreeSet<u64>, event: &Value) {
    let Some(seat) = event["seat"].as_u64() else { return };
    match event["type"].as_str() {
        Some("table.player_away") if !event["gateway_lost_at"].is_null() => {
            lost.insert(seat);
        }
        Some("table.player_back" | "table.seat_returned" | "table.seat_taken_by_bot") => {
            lost.remove(&seat);
        }
        _ => {}
    }
}
