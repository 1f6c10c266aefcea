//! Whether a stream that exists will do. Pure.

use async_nats::jetstream::stream::Config;
use serde_json::Value;

use super::super::durability::{DURABILITY, Durability};
use super::{Change, SHARDS};

/// Settings without which the log does not keep its promises. All others, sizes and placement above all,
/// are the operator's to choose.
const EXACT: &[&str] = &[
    "subjects",
    "retention",
    "storage",
    "discard",
    "discard_new_per_subject",
    "republish",
    "subject_transform",
    "allow_direct",
    "allow_msg_ttl",
    "allow_msg_schedules",
    "allow_rollup_hdrs",
    "deny_delete",
    "deny_purge",
    "no_ack",
    "sealed",
];

/// Settings of which more is fine.
const AT_LEAST: &[&str] = &["num_replicas", "duplicate_window"];

const PER_SUBJECT: &str = "max_msgs_per_subject";

/// One setting that is not as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name in `nats stream info`.
    pub field: String,
    /// As it is.
    pub found: String,
    /// As it should be.
    pub wanted: String,
}

/// What would have to be done to a stream that exists.
pub(super) fn change(wanted: &Config, found: &Config) -> Change {
    let wanted_json = serde_json::to_value(wanted).expect("a stream's settings are plain data");
    let found_json = serde_json::to_value(found).expect("a stream's settings are plain data");
    let exact = EXACT.iter().filter(|field| {
        let [wanted, found] = [&wanted_json, &found_json].map(|json| plain(json.get(**field)));
        wanted != found
    });
    let at_least = AT_LEAST.iter().filter(|field| {
        let [wanted, found] =
            [&wanted_json, &found_json].map(|json| json.get(**field).and_then(Value::as_u64));
        wanted > found
    });
    let per_subject = Some(&PER_SUBJECT).filter(|_| !per_subject_will_do(wanted, found));
    let mut becomes = found_json.clone();
    let mut differences = Vec::new();
    for field in exact.chain(at_least).chain(per_subject) {
        differences.push(Difference {
            field: (*field).to_owned(),
            found: plain(found_json.get(*field)).to_string(),
            wanted: plain(wanted_json.get(*field)).to_string(),
        });
        becomes[*field] = plain(wanted_json.get(*field));
    }
    let [wanted_class, found_class] =
        [wanted, found].map(|stream| Durability::of(&stream.metadata));
    let labels = [
        (SHARDS, wanted.metadata.get(SHARDS) != found.metadata.get(SHARDS)),
        // What a stream promises is raised, and lowered only by hand.
        (DURABILITY, wanted_class > found_class),
    ];
    for (label, differs) in labels {
        if let Some(value) = wanted.metadata.get(label).filter(|_| differs) {
            let found = found.metadata.get(label);
            differences.push(Difference {
                field: format!("metadata {label}"),
                found: found.map_or_else(|| "nothing".to_owned(), Clone::clone),
                wanted: value.clone(),
            });
            becomes["metadata"][label] = Value::from(value.as_str());
        }
    }
    if differences.is_empty() {
        return Change::Nothing;
    }
    let config = serde_json::from_value(becomes).expect("both were a stream's settings");
    Change::Update { differences, config: Box::new(config) }
}

/// A bucket keeps one message per key; of a table's commits any limit will do, but there must be one.
fn per_subject_will_do(wanted: &Config, found: &Config) -> bool {
    let [wanted, found] = [wanted, found].map(|stream| stream.max_messages_per_subject);
    wanted == found || (wanted > 1 && found > 1) || wanted < 1
}

/// A setting that is not written has its default, which for all of ours is "no".
fn plain(value: Option<&Value>) -> Value {
    match value {
        None => Value::Null,
        Some(Value::Bool(false)) => Value::Null,
        Some(value) => value.clone(),
    }
}
