//! Creates the streams of `nats/`, or checks that those that exist will do.

mod compare;

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{
    AccountErrorKind, Context, ContextBuilder, CreateStreamErrorKind, GetStreamError,
    GetStreamErrorKind,
};
use async_nats::jetstream::stream::{Config, Stream};
use tokio::time::Instant;
use tracing::{info, warn};

use super::connect::{NatsConfig, REQUEST_TIMEOUT};
use super::durability::{DURABILITY, Durability};

pub use compare::Difference;

/// The templates of every shard's streams, as shard 0 has them.
const SHARDED: [&str; 3] = [
    include_str!("../../../nats/streams/events.json"),
    include_str!("../../../nats/streams/snapshots.json"),
    include_str!("../../../nats/streams/timers.json"),
];
const DEAD: &str = include_str!("../../../nats/streams/dead.json");
const LOBBY: &str = include_str!("../../../nats/buckets/lobby.json");

/// The oldest server that has everything the log relies on.
const SERVER_MIN: (u32, u32) = (2, 12);

/// In a stream's metadata: another number of shards would look for tables in the wrong streams.
const SHARDS: &str = "tablecast.shards";

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
    #[error(
        "stream {stream} has {field} = {found}, but {wanted} is needed: see `tablecast streams plan`"
    )]
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
    /// The new stream would survive less than those that are there.
    #[error(
        "stream {stream} would be made for durability class {asked}, but stream {beside} is of class {found}: start with --durability {found}"
    )]
    Weaker {
        /// The one that is missing.
        stream: String,
        /// The class that was asked for.
        asked: Durability,
        /// One that is there.
        beside: String,
        /// Its class.
        found: Durability,
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
    /// The class that it is of; none if it is missing.
    pub durability: Option<Durability>,
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

/// JetStream on a connection, with our timeout.
pub fn context(client: &Client) -> Context {
    ContextBuilder::new().timeout(REQUEST_TIMEOUT).build(client.clone())
}

/// Every stream and bucket of a deployment, as the files in `nats/` define them.
pub fn definitions(config: &NatsConfig) -> Vec<Config> {
    let of_shard = |shard: u16| {
        SHARDED.map(|template| {
            let mut stream: Config = parse(&for_shard(template, shard));
            stream.metadata.insert(SHARDS.to_owned(), config.shards.to_string());
            stream
        })
    };
    let mut all: Vec<Config> = (0..config.shards.get()).flat_map(of_shard).collect();
    all.extend([DEAD, LOBBY].map(parse));
    for stream in &mut all {
        stream.num_replicas = config.replicas();
        stream.metadata.insert(DURABILITY.to_owned(), config.durability.to_string());
    }
    all
}

/// A template with the number of a shard wherever that of shard 0 stands.
pub(super) fn for_shard(template: &str, shard: u16) -> String {
    template
        .replace("_0\"", &format!("_{shard}\""))
        .replace(".0.", &format!(".{shard}."))
        .replace("shard 0", &format!("shard {shard}"))
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
    if let Some((stream, found)) = strongest(&plans).filter(|(_, found)| *found > config.durability)
    {
        let asked = config.durability;
        warn!(
            "stream {stream} is of durability class {found} and stays so, though {asked} was asked for"
        );
    }
    apply(context, &plans, config.nats_wait).await
}

/// The first stream of the highest class that is there.
fn strongest(plans: &[StreamPlan]) -> Option<(&str, Durability)> {
    let classes = plans.iter().filter_map(|plan| Some((plan.stream.as_str(), plan.durability?)));
    classes.rev().max_by_key(|(_, class)| *class)
}

/// Part of a deployment that survives less than the rest lowers what the whole survives, in silence.
fn refuse_weaker(plans: &[StreamPlan]) -> Result<(), ProvisionError> {
    let Some((beside, found)) = strongest(plans) else {
        return Ok(());
    };
    for plan in plans {
        if let Change::Create(config) = &plan.change
            && let asked = Durability::of(&config.metadata)
            && asked < found
        {
            let (stream, beside) = (plan.stream.clone(), beside.to_owned());
            return Err(ProvisionError::Weaker { stream, asked, beside, found });
        }
    }
    Ok(())
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
    let deadline = Instant::now() + config.nats_wait;
    check_jetstream(context, config.nats_wait).await?;
    let mut plans = Vec::new();
    for wanted in definitions(config) {
        let stream = wanted.name.clone();
        let (durability, change) = match found(context, &stream, deadline).await {
            Ok(found) => {
                let found = &found.cached_info().config;
                (Some(Durability::of(&found.metadata)), compare::change(&wanted, found))
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.code() == 404 => {
                    (None, Change::Create(Box::new(wanted)))
                }
                GetStreamErrorKind::JetStream(_)
                | GetStreamErrorKind::EmptyName
                | GetStreamErrorKind::Request
                | GetStreamErrorKind::InvalidStreamName => {
                    return Err(unavailable(&error));
                }
            },
        };
        plans.push(StreamPlan { stream, durability, change });
    }
    Ok(plans)
}

fn unavailable(error: &dyn std::error::Error) -> ProvisionError {
    ProvisionError::Unavailable { reason: error.to_string() }
}

fn check_version(version: &str) -> Result<(), ProvisionError> {
    let mut numbers = version
        .trim_start_matches('v')
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= SERVER_MIN => Ok(()),
        _ => Err(ProvisionError::TooOld { version: version.to_owned() }),
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

/// A stream's settings. A role that starts while the cluster elects waits, as it does for a server.
async fn found(
    context: &Context,
    stream: &str,
    deadline: Instant,
) -> Result<Stream, GetStreamError> {
    loop {
        let answer = context.get_stream(stream).await;
        let is_passing = answer.as_ref().is_err_and(|error| match error.kind() {
            GetStreamErrorKind::Request => true,
            GetStreamErrorKind::JetStream(reason) => PASSING.contains(&reason.error_code().0),
            GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => false,
        });
        if !is_passing || Instant::now() >= deadline {
            return answer;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// JetStream not enabled on the server, or not for the account.
const NOT_ENABLED: [u64; 2] = [10076, 10039];

/// Passing troubles of a creation: no leader yet, a directory that is being removed.
const PASSING: [u64; 3] = [10008, 10009, 10049];

const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Does what was planned.
///
/// # Errors
/// If what is missing would be made for less than what is there, or the server refuses, or does not answer
/// within `patience`.
pub async fn apply(
    context: &Context,
    plans: &[StreamPlan],
    patience: Duration,
) -> Result<(), ProvisionError> {
    refuse_weaker(plans)?;
    for StreamPlan { stream, change, .. } in plans {
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
    ProvisionError::Refused { stream: stream.to_owned(), reason: error.to_string() }
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
