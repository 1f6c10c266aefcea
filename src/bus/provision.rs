//! Creates the streams of `nats/`, or checks that those that exist will do.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{
    AccountErrorKind, Context, ContextBuilder, CreateStreamErrorKind, GetStreamErrorKind,
};
use async_nats::jetstream::stream::Config;
use serde_json::Value;
use tokio::time::Instant;
use tracing::info;

use super::connect::{NatsConfig, REQUEST_TIMEOUT};

/// The template of every shard's stream, as shard 0 has it.
const EVENTS: &str = include_str!("../../nats/streams/events.json");
const DEAD: &str = include_str!("../../nats/streams/dead.json");
const LOBBY: &str = include_str!("../../nats/buckets/lobby.json");

/// The oldest server that has everything the log relies on.
const SERVER_MIN: (u32, u32) = (2, 12);

/// In a stream's metadata: another number of shards would look for tables in the wrong streams.
const SHARDS: &str = "tablecast.shards";

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
    "allow_rollup_hdrs",
    "deny_delete",
    "deny_purge",
    "no_ack",
    "sealed",
];

/// Settings of which more is fine.
const AT_LEAST: &[&str] = &["num_replicas", "duplicate_window"];

const PER_SUBJECT: &str = "max_msgs_per_subject";

/// Why the streams are not as the log needs them.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Before the features we rely on.
    #[error("NATS server {version} is too old: version {}.{} or newer is needed", SERVER_MIN.0, SERVER_MIN.1)]
    TooOld {
        /// What the server says it is.
        version: String,
    },
    /// No event log without it.
    #[error(
        "the NATS server has JetStream disabled: start it with `nats-server -js`, or enable it for this account"
    )]
    NoJetStream,
    /// Made by hand, or by another version of Tablecast.
    #[error("stream {stream} has {field} = {found}, but {wanted} is needed")]
    Differs {
        /// Which.
        stream: String,
        /// The setting's name in `nats stream info`.
        field: String,
        /// As it is.
        found: String,
        /// As it should be.
        wanted: String,
    },
    /// The server's no.
    #[error("stream {stream} cannot be created or changed: {reason}")]
    Refused {
        /// Which.
        stream: String,
        /// In the server's words.
        reason: String,
    },
    /// No answer for too long, as in a cluster without a leader.
    #[error("JetStream does not answer: {reason}")]
    Unavailable {
        /// In the client's or the server's words.
        reason: String,
    },
}

/// What to do with a stream that exists and differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse to go on.
    Check,
    /// Change it.
    Update,
}

/// What one stream needs.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPlan {
    /// Its name.
    pub stream: String,
    /// What would be done.
    pub change: Change,
}

/// What would be done to a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is as needed.
    Nothing,
    /// It is missing.
    Create(Box<Config>),
    /// It differs.
    Update {
        /// Setting by setting.
        differences: Vec<Difference>,
        /// What it becomes: the operator's choices stay.
        config: Box<Config>,
    },
}

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

/// JetStream on a connection, with our timeout.
pub fn context(client: &Client) -> Context {
    ContextBuilder::new()
        .timeout(REQUEST_TIMEOUT)
        .build(client.clone())
}

/// Every stream and bucket of a deployment, as the files in `nats/` define them.
pub fn definitions(config: &NatsConfig) -> Vec<Config> {
    let mut all: Vec<Config> = (0..config.shards.get())
        .map(|shard| {
            let text = EVENTS
                .replace("EVENTS_0", &crate::protocol::subject::events_stream(shard))
                .replace(".0.", &format!(".{shard}."))
                .replace("shard 0", &format!("shard {shard}"));
            let mut stream = parse(&text);
            stream.metadata = HashMap::from([(SHARDS.to_owned(), config.shards.to_string())]);
            stream
        })
        .collect();
    all.extend([DEAD, LOBBY].map(parse));
    for stream in &mut all {
        stream.num_replicas = config.replicas.get();
    }
    all
}

fn parse(text: &str) -> Config {
    serde_json::from_str(text).expect("the files in nats/ are stream definitions")
}

/// Creates what is missing; what differs is an error, or changed.
///
/// Any number of processes may do this at once.
///
/// # Errors
/// If a stream cannot be what the log needs.
pub async fn ensure(
    context: &Context,
    config: &NatsConfig,
    existing: Existing,
) -> Result<(), ProvisionError> {
    let plans = plan(context, config).await?;
    if existing == Existing::Check {
        for plan in &plans {
            refuse_differences(plan)?;
        }
    }
    apply(context, &plans, config.nats_wait).await
}

fn refuse_differences(plan: &StreamPlan) -> Result<(), ProvisionError> {
    let Change::Update { differences, .. } = &plan.change else {
        return Ok(());
    };
    let first = differences.first().expect("an update changes something");
    Err(ProvisionError::Differs {
        stream: plan.stream.clone(),
        field: first.field.clone(),
        found: first.found.clone(),
        wanted: first.wanted.clone(),
    })
}

/// What would have to be done. Changes nothing.
///
/// # Errors
/// If the server cannot carry the log, or does not answer.
pub async fn plan(
    context: &Context,
    config: &NatsConfig,
) -> Result<Vec<StreamPlan>, ProvisionError> {
    check_version(&context.client().server_info().version)?;
    check_jetstream(context, config.nats_wait).await?;
    let mut plans = Vec::new();
    for wanted in definitions(config) {
        let stream = wanted.name.clone();
        let change = match context.get_stream(&stream).await {
            Ok(found) => compare(&wanted, &found.cached_info().config),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.code() == 404 => {
                    Change::Create(Box::new(wanted))
                }
                GetStreamErrorKind::JetStream(_)
                | GetStreamErrorKind::EmptyName
                | GetStreamErrorKind::Request
                | GetStreamErrorKind::InvalidStreamName => {
                    return Err(unavailable(&error));
                }
            },
        };
        plans.push(StreamPlan { stream, change });
    }
    Ok(plans)
}

fn unavailable(error: &dyn std::error::Error) -> ProvisionError {
    ProvisionError::Unavailable {
        reason: error.to_string(),
    }
}

fn check_version(version: &str) -> Result<(), ProvisionError> {
    let mut numbers = version
        .trim_start_matches('v')
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= SERVER_MIN => Ok(()),
        _ => Err(ProvisionError::TooOld {
            version: version.to_owned(),
        }),
    }
}

/// A server that has just started, or a cluster that elects, may take a moment.
async fn check_jetstream(context: &Context, patience: Duration) -> Result<(), ProvisionError> {
    let deadline = Instant::now() + patience;
    loop {
        let Err(error) = context.query_account().await else {
            return Ok(());
        };
        match error.kind() {
            AccountErrorKind::JetStreamUnavailable => return Err(ProvisionError::NoJetStream),
            AccountErrorKind::JetStream(reason) if NOT_ENABLED.contains(&reason.error_code().0) => {
                return Err(ProvisionError::NoJetStream);
            }
            AccountErrorKind::JetStream(_)
            | AccountErrorKind::TimedOut
            | AccountErrorKind::Other => {}
        }
        if Instant::now() >= deadline {
            return Err(unavailable(&error));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// JetStream not enabled on the server, or not for the account.
const NOT_ENABLED: [u64; 2] = [10076, 10039];

/// Passing troubles of a creation: no leader yet, a directory that is being removed.
const PASSING: [u64; 3] = [10008, 10009, 10049];

const RETRY_PAUSE: Duration = Duration::from_millis(100);

fn compare(wanted: &Config, found: &Config) -> Change {
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
    let [wanted_shards, found_shards] = [wanted, found].map(|stream| stream.metadata.get(SHARDS));
    if let Some(shards) = wanted_shards.filter(|shards| found_shards != Some(shards)) {
        differences.push(Difference {
            field: format!("metadata {SHARDS}"),
            found: found_shards.map_or_else(|| "nothing".to_owned(), Clone::clone),
            wanted: shards.clone(),
        });
        becomes["metadata"][SHARDS] = Value::from(shards.as_str());
    }
    if differences.is_empty() {
        return Change::Nothing;
    }
    let config = serde_json::from_value(becomes).expect("both were a stream's settings");
    Change::Update {
        differences,
        config: Box::new(config),
    }
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

/// Does what was planned.
///
/// # Errors
/// If the server refuses, or does not answer within `patience`.
pub async fn apply(
    context: &Context,
    plans: &[StreamPlan],
    patience: Duration,
) -> Result<(), ProvisionError> {
    for StreamPlan { stream, change } in plans {
        match change {
            Change::Nothing => {}
            Change::Create(config) => {
                create(context, config, patience).await?;
                info!(stream, "created stream {stream}");
            }
            Change::Update { config, .. } => {
                let updated = context.update_stream(config.as_ref()).await;
                updated.map_err(|error| refused(stream, &error))?;
                info!(stream, "changed stream {stream}");
            }
        }
    }
    Ok(())
}

fn refused(stream: &str, error: &dyn std::error::Error) -> ProvisionError {
    ProvisionError::Refused {
        stream: stream.to_owned(),
        reason: error.to_string(),
    }
}

async fn create(
    context: &Context,
    config: &Config,
    patience: Duration,
) -> Result<(), ProvisionError> {
    let deadline = Instant::now() + patience;
    loop {
        let Err(error) = context.create_stream(config.clone()).await else {
            return Ok(());
        };
        let passing = match error.kind() {
            CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable => true,
            CreateStreamErrorKind::JetStream(reason) => PASSING.contains(&reason.error_code().0),
            CreateStreamErrorKind::EmptyStreamName
            | CreateStreamErrorKind::InvalidStreamName
            | CreateStreamErrorKind::DomainAndExternalSet
            | CreateStreamErrorKind::Response
            | CreateStreamErrorKind::NotFound
            | CreateStreamErrorKind::ResponseParse => false,
        };
        if !passing || Instant::now() >= deadline {
            return Err(refused(&config.name, &error));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_before_2_12_is_refused_by_its_version() {
        for version in ["2.12.0", "2.15.1", "3.0.0", "2.12.0-beta.1", "v2.14.3"] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["2.11.9", "1.99.0", "0.0.0", "", "nightly"] {
            let error = check_version(version).expect_err(version);
            assert!(error.to_string().contains("too old"), "{error}");
        }
    }
}
