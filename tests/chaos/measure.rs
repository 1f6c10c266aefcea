//! How long players and watchers waited, apart for what was broken meanwhile.

use std::collections::{BTreeMap, HashMap};

use tablecast::domain::TableId;

use crate::checker::history::{Command, Notebook, Seen};
use crate::checker::log::Log;
use crate::nemesis::{Act, Deed};

/// After a server of NATS came back, elections and catching up may take this long.
const NATS_AFTER_MS: u64 = 8_000;
/// After a process came back, or was let go on.
const PROCESS_AFTER_MS: u64 = 1_000;

/// Waits, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Vec<f64>);

impl Waits {
    fn add(&mut self, millis: f64) {
        self.0.push(millis);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The wait that so many of a hundred did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied()
    }

    pub(crate) fn longest(&self) -> Option<f64> {
        self.0.iter().copied().max_by(f64::total_cmp)
    }
}

/// All that is measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Commands while nothing that concerns them was broken.
    pub(crate) usual: Waits,
    /// The first command at a table after its owner was killed, nothing else being broken.
    pub(crate) after_kill: Waits,
    /// All others.
    pub(crate) disturbed: Waits,
    /// From the kill of a worker to the next commit that a watcher of one of its tables got.
    pub(crate) resumed: Waits,
}

/// A worker was killed at a moment when it owned a table.
struct Orphaned {
    table: TableId,
    at_ms: u64,
    /// When the next owner's claim was stored.
    claimed_ms: u64,
}

/// Measures a run.
pub(crate) fn measure(log: &Log, notebooks: &[Notebook], deeds: &[Deed]) -> Measured {
    let orphaned = orphaned(log, deeds);
    let mut measured = Measured::default();
    let mut by_table: HashMap<TableId, Vec<&Command>> = HashMap::new();
    for command in notebooks.iter().flat_map(|notebook| &notebook.commands) {
        if command.accepted().is_some() {
            by_table.entry(command.table).or_default().push(command);
        }
    }
    for (table, mut commands) in by_table {
        commands.sort_by_key(|command| command.sent_ms.first().copied());
        let mut kills: Vec<&Orphaned> =
            orphaned.iter().filter(|orphan| orphan.table == table).collect();
        for command in commands {
            classify(command, &mut kills, log, deeds, &mut measured);
        }
    }
    watch(notebooks, &orphaned, deeds, &mut measured);
    measured
}

fn classify(
    command: &Command,
    kills: &mut Vec<&Orphaned>,
    log: &Log,
    deeds: &[Deed],
    measured: &mut Measured,
) {
    let (Some(took), Some(sent)) = (command.took_us, command.sent_ms.first().copied()) else {
        return;
    };
    let millis = f64::from(u32::try_from(took).unwrap_or(u32::MAX)) / 1_000.0;
    let answered = sent + took / 1_000;
    // Answered after the kill, and sent before anybody else had the table.
    let kill = kills.iter().position(|kill| answered >= kill.at_ms && sent < kill.claimed_ms);
    let others = disturbs(command.table, (sent, answered), log, deeds);
    let waits = match kill {
        Some(at) => {
            kills.remove(at);
            if others || command.connections > 1 {
                &mut measured.disturbed
            } else {
                &mut measured.after_kill
            }
        }
        None if others || command.connections > 1 => &mut measured.disturbed,
        None => &mut measured.usual,
    };
    waits.add(millis);
}

/// Whether anything but the kill of a worker may have delayed a table in a span of time.
fn disturbs(table: TableId, (from, to): (u64, u64), log: &Log, deeds: &[Deed]) -> bool {
    let owner_at = |at_ms| owner(log, table, at_ms);
    deeds.iter().any(|deed| {
        let after = if deed.act.is_of_nats() { NATS_AFTER_MS } else { PROCESS_AFTER_MS };
        let overlaps = from <= deed.until_ms.saturating_add(after) && to >= deed.at_ms;
        overlaps
            && match deed.act {
                Act::WorkerKill | Act::ArchiverKill => false,
                Act::WorkerStop | Act::WorkerDrain | Act::WorkerCut | Act::WorkerStall => {
                    owner_at(deed.at_ms) == Some(deed.target.as_str())
                }
                // A client whose gateway hangs has no answer, whoever owns the table.
                Act::GatewayKill
                | Act::GatewayStop
                | Act::GatewayDrain
                | Act::GatewayCut
                | Act::GatewayStall
                | Act::NodeKill
                | Act::LeaderKill
                | Act::NodeStop
                | Act::LeaderDrain => true,
            }
    })
}

/// Who owned a table at a moment, as the log has it.
fn owner(log: &Log, table: TableId, at_ms: u64) -> Option<&str> {
    let entries = &log.tables.get(&table)?.entries;
    let before = entries.iter().take_while(|entry| entry.stored_ms <= at_ms);
    before.last().map(|entry| entry.worker.as_str())
}

/// The tables that lost their owner by a kill while they were played.
fn orphaned(log: &Log, deeds: &[Deed]) -> Vec<Orphaned> {
    let mut orphaned = Vec::new();
    for deed in deeds.iter().filter(|deed| deed.act == Act::WorkerKill) {
        for (table, entries) in log.tables.iter().map(|(id, table)| (*id, &table.entries)) {
            let next = entries.iter().position(|entry| entry.stored_ms > deed.at_ms);
            let Some(next) = next else { continue };
            let Some(last) = next.checked_sub(1) else { continue };
            if entries[last].worker == deed.target && !entries[last].commit.has("table.completed") {
                let claim = entries[next..].iter().find(|entry| entry.commit.has("table.claimed"));
                let claimed_ms = claim.map_or(u64::MAX, |claim| claim.stored_ms);
                orphaned.push(Orphaned { table, at_ms: deed.at_ms, claimed_ms });
            }
        }
    }
    orphaned
}

/// The first commit that each watcher got after a kill.
fn watch(notebooks: &[Notebook], orphaned: &[Orphaned], deeds: &[Deed], measured: &mut Measured) {
    for orphan in orphaned {
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        for notebook in notebooks {
            let Some(lines) = notebook.histories.get(&orphan.table) else { continue };
            let follows = lines.iter().take_while(|line| line.at_ms < orphan.at_ms).last();
            if follows
                .is_none_or(|line| matches!(line.seen, Seen::Lost | Seen::Unsubscribed { .. }))
            {
                continue;
            }
            // A claim is the first thing that comes of a table that was taken over.
            let next = lines.iter().find(|line| {
                line.at_ms >= orphan.at_ms && matches!(line.seen, Seen::Commit { .. })
            });
            if let Some(next) = next {
                first.insert(&notebook.client, next.at_ms);
            }
        }
        for at_ms in first.into_values() {
            let is_other = deeds.iter().any(|deed| {
                let after = if deed.act.is_of_nats() { NATS_AFTER_MS } else { PROCESS_AFTER_MS };
                !matches!(deed.act, Act::WorkerKill | Act::ArchiverKill)
                    && orphan.at_ms <= deed.until_ms.saturating_add(after)
                    && at_ms >= deed.at_ms
            });
            if !is_other {
                let waited = u32::try_from(at_ms - orphan.at_ms).unwrap_or(u32::MAX);
                measured.resumed.add(f64::from(waited));
            }
        }
    }
}
