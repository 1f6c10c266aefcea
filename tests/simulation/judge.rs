//! What is known of a simulation once it is over, judged.

use std::collections::HashMap;
use std::sync::Arc;

use object_store::ObjectStore;
use tablecast::archive::{ListFilter, Reader};
use tablecast::domain::TableId;
use tablecast::protocol::archive::ArchivedTable;

use crate::checker::log::TableLog;
use crate::checker::{self, Evidence, Findings, Violation};
use crate::world::World;

/// Longer than any alarm takes to ring for a table that nobody looks at.
const STUCK_MS: u64 = 60_000;

/// The checker's findings, and those of this place.
pub(crate) async fn judge(world: &World) -> Findings {
    let log = world.tape.log();
    let reached = log.tables.iter().map(|(table, found)| (*table, found.last_seq())).collect();
    let deaths = match world.plan.is_skewed {
        // By whose clock?
        true => HashMap::new(),
        false => world.deaths.lock().expect("unbroken").clone().into_iter().collect(),
    };
    let notebooks = world.notebooks.lock().expect("unbroken").values().cloned().collect();
    let evidence = Evidence {
        log,
        notebooks,
        archive: archive(world).await,
        reached,
        due_ms: world.now_ms(),
        deaths,
    };
    let mut findings = checker::check(&evidence, &world.catalog);
    let is_stuck = |found: &TableLog| {
        let last = found.entries.last().map_or(0, |entry| entry.stored_ms);
        !found.has_ended() && last + STUCK_MS < world.now_ms()
    };
    for (table, found) in evidence.log.tables.iter().filter(|(_, found)| is_stuck(found)) {
        findings.violations.push(Violation {
            promise: "every table goes on once nothing is broken any more",
            table: Some(*table),
            what: format!("{} stands at commit {}", found.kind, found.last_seq()),
        });
    }
    if evidence.log.tables.len() != world.plan.games.len() {
        findings.violations.push(Violation {
            promise: "every table is opened once nothing is broken any more",
            table: None,
            what: format!("{} of {}", evidence.log.tables.len(), world.plan.games.len()),
        });
    }
    crate::fairness::check(&evidence, world, &mut findings);
    findings
}

async fn archive(world: &World) -> HashMap<TableId, Vec<ArchivedTable>> {
    let store: Arc<dyn ObjectStore> = Arc::<object_store::memory::InMemory>::clone(&world.store);
    let reader = Reader::new(store);
    let listed = reader.ls(&ListFilter::default(), usize::MAX).await.expect("readable");
    let mut rows = Vec::new();
    for row in listed {
        rows.extend(reader.get(row.table_id).await.expect("readable"));
    }
    checker::archive::by_table(rows)
}
