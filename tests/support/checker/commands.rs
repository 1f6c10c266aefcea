//! Accepted means: in the log, once, as the commit that was named; and the verdict stays the same.

use std::collections::HashMap;

use tablecast::domain::TableId;

use super::history::{Command, Verdict};
use super::log::Log;
use super::{Evidence, Findings};

pub(crate) const ONCE: &str = "an accepted command is in the log exactly once";
const SAME: &str = "a command sent again gets its first verdict";
const NEVER: &str = "a rejected command is not in the log";
const ORDER: &str = "a player's commands are in the log in the order in which they were answered";

const ANSWERED: &str = "every command gets a verdict";

/// How long a verdict may take, with everything that can be broken meanwhile.
const VERDICT_MS: u64 = 30_000;

/// Verdicts on a command for a table that is over: the table has forgotten its commands.
const OVER: [&str; 3] = ["game_over", "archived", "unknown_table"];

type Places<'a> = HashMap<(TableId, &'a str, &'a str), Vec<u64>>;

pub(crate) fn check(evidence: &Evidence, findings: &mut Findings) {
    let places = places(&evidence.log);
    for ((table, player, id), seqs) in &places {
        if seqs.len() > 1 {
            let what = format!("command {id} of {player} is in commits {seqs:?}");
            findings.broken(ONCE, *table, what);
        }
    }
    for notebook in &evidence.notebooks {
        let mut last: HashMap<TableId, u64> = HashMap::new();
        for command in &notebook.commands {
            let key = (command.table, command.player.as_str(), command.id.as_str());
            let seqs = places.get(&key).map(Vec::as_slice).unwrap_or_default();
            one(command, seqs, evidence.due_ms, findings);
            if let Some(seq) = command.accepted() {
                let last = last.entry(command.table).or_default();
                if seq <= *last {
                    let what = format!("{} is commit {seq}, the one before it {last}", command.id);
                    findings.broken(ORDER, command.table, what);
                }
                *last = seq;
            }
        }
    }
}

fn places(log: &Log) -> Places<'_> {
    let mut places: Places<'_> = HashMap::new();
    for (id, table) in &log.tables {
        for entry in &table.entries {
            if let Some((player, command)) = entry.commit.command() {
                places.entry((*id, player, command)).or_default().push(entry.commit.seq);
            }
        }
    }
    places
}

fn one(command: &Command, seqs: &[u64], due_ms: u64, findings: &mut Findings) {
    let Command { table, player, id, .. } = command;
    findings.count("commands", 1);
    let resent = command.sent_ms.len().saturating_sub(1);
    findings.count("commands sent again", u64::try_from(resent).unwrap_or(u64::MAX));
    let Some(accepted) = command.accepted() else {
        let code = command.verdicts.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Rejected { code } => Some(code.as_str()),
            Verdict::Accepted { .. } | Verdict::Later { .. } => None,
        });
        match code {
            Some(code) if OVER.contains(&code) && !seqs.is_empty() => {
                findings.count("told `over` of a command that is in the log", 1);
            }
            Some(code) => {
                findings.count("commands rejected", 1);
                if !seqs.is_empty() {
                    let what = format!("{id} of {player} was rejected ({code}), is in {seqs:?}");
                    findings.broken(NEVER, *table, what);
                }
            }
            None => {
                findings.count("commands without a verdict", 1);
                let sent = command.sent_ms.first().copied().unwrap_or_default();
                if sent + VERDICT_MS < due_ms {
                    let what = format!("{id} of {player}, sent {:?}", command.sent_ms);
                    findings.broken(ANSWERED, *table, what);
                }
            }
        }
        return;
    };
    findings.count("commands accepted", 1);
    if seqs != [accepted] {
        let what = format!("{id} of {player} was accepted as {accepted}, the log has {seqs:?}");
        findings.broken(ONCE, *table, what);
    }
    for (_, verdict) in &command.verdicts {
        let is_same = match verdict {
            Verdict::Accepted { seq } => *seq == accepted,
            // The table is over, and has forgotten: not the first verdict, and no other one either.
            Verdict::Rejected { code } => OVER.contains(&code.as_str()),
            Verdict::Later { .. } => true,
        };
        if !is_same {
            let what = format!("{id} of {player} was accepted as {accepted}, and then {verdict:?}");
            findings.broken(SAME, *table, what);
        }
    }
}
