//! Connecting a role to NATS: its options, the wait for a server, what the connection reports.

use std::fmt;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Bus;
use super::durability::Durability;
use super::jetstream::JetStream;
use super::lobby::KvLobby;
use super::mail::CoreMail;
use super::provision::{self, Existing, ProvisionError};

/// What one unanswered request waits for at most; well above a busy server's answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages that wait in one subscription. A full one drops, which the log's readers see as a gap.
const SUBSCRIPTION_CAPACITY: usize = 8192;

/// Where NATS is and how the event log is laid out in it.
#[derive(Clone, Debug, clap::Args)]
pub struct NatsConfig {
    /// NATS servers of one cluster, separated by commas
    #[arg(
        long,
        env = "TABLECAST_NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub nats_url: Vec<NatsUrl>,

    /// Credentials file with the JWT and seed of a NATS user
    #[arg(long, env = "TABLECAST_NATS_CREDENTIALS")]
    pub nats_credentials: Option<PathBuf>,

    /// How long to wait for a NATS server at start
    #[arg(
        long,
        env = "TABLECAST_NATS_WAIT",
        default_value = "10s",
        value_parser = humantime::parse_duration
    )]
    pub nats_wait: Duration,

    /// Over how many streams tables are spread; fixed for the life of a deployment
    #[arg(long, env = "TABLECAST_SHARDS", default_value = "1")]
    pub shards: NonZeroU16,

    /// What acknowledged commits survive; the class of the streams that are made
    #[arg(long, env = "TABLECAST_DURABILITY", value_enum, default_value_t = Durability::Dev)]
    pub durability: Durability,

    /// How many servers keep each stream, at least [default: 1 for dev, else 3]
    #[arg(long, env = "TABLECAST_REPLICAS")]
    pub replicas: Option<NonZeroUsize>,
}

/// A mistake in how the options go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A majority must be left when one server is lost.
    #[error(
        "--durability standard needs --replicas 3 or more: fewer do not survive the loss of a server"
    )]
    TooFewReplicas,
}

/// A server's address. Shown without the user and password that it may hold.
#[derive(Clone)]
pub struct NatsUrl(ServerAddr);

impl FromStr for NatsUrl {
    type Err = std::io::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.0.scheme(), self.0.host(), self.0.port())
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl NatsConfig {
    /// Whether the options go together.
    ///
    /// # Errors
    /// What does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.durability {
            Durability::Standard if self.replicas() < Durability::Standard.replicas() => {
                Err(ConfigError::TooFewReplicas)
            }
            Durability::Dev | Durability::Standard | Durability::Strict => Ok(()),
        }
    }

    /// How many servers keep each stream, at least.
    pub fn replicas(&self) -> usize {
        self.replicas.map_or(self.durability.replicas(), NonZeroUsize::get)
    }

    /// The servers, for people.
    fn servers(&self) -> String {
        let names: Vec<String> = self.nats_url.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

/// Why a role has no bus.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answers there.
    #[error(
        "no NATS server at {servers}: start one with `nats-server -js`, or name another with --nats-url"
    )]
    NoServer {
        /// Where we looked.
        servers: String,
        /// The last attempt's end.
        source: async_nats::ConnectError,
    },
    /// A server is there and does not let us in, or not as we speak to it.
    #[error("the NATS server at {servers} turns us away")]
    TurnedAway {
        /// Where.
        servers: String,
        /// Its reason.
        source: async_nats::ConnectError,
    },
    /// The credentials file.
    #[error("the NATS credentials in {} cannot be used", path.display())]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Connected, but the streams are not what this binary needs.
    #[error(transparent)]
    Streams(#[from] ProvisionError),
}

/// Connects, creates what streams are missing, and refuses to work with streams that differ.
///
/// `name` is what operators see in the server's list of connections. Once connected, the client reconnects
/// by itself for ever.
///
/// # Errors
/// If there is no server within [`NatsConfig::nats_wait`], or not one that can carry the event log.
pub async fn connect(config: &NatsConfig, name: &str) -> Result<Bus, ConnectError> {
    let client = client(config, name).await?;
    let context = provision::context(&client);
    provision::ensure(&context, config, Existing::Check).await?;
    let jetstream = Arc::new(JetStream::new(client.clone(), config.shards));
    Ok(Bus {
        log: Arc::<JetStream>::clone(&jetstream),
        mail: Arc::new(CoreMail::new(client.clone())),
        lobby: Arc::new(KvLobby::new(client)),
        snapshots: Arc::<JetStream>::clone(&jetstream),
        timers: jetstream,
    })
}

/// Connects and looks at nothing: for [`provision::plan`] and [`provision::apply`].
///
/// # Errors
/// If there is no server within [`NatsConfig::nats_wait`].
pub async fn client(config: &NatsConfig, name: &str) -> Result<Client, ConnectError> {
    let deadline = Instant::now() + config.nats_wait;
    let addresses: Vec<ServerAddr> = config.nats_url.iter().map(|url| url.0.clone()).collect();
    let mut pause = Duration::from_millis(50);
    let mut announced = false;
    loop {
        let source = match options(config, name).await?.connect(&addresses[..]).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let servers = config.servers();
        match source.kind() {
            ConnectErrorKind::Io | ConnectErrorKind::Dns | ConnectErrorKind::TimedOut => {}
            ConnectErrorKind::ServerParse
            | ConnectErrorKind::Authentication
            | ConnectErrorKind::AuthorizationViolation
            | ConnectErrorKind::Tls
            | ConnectErrorKind::MaxReconnects => {
                return Err(ConnectError::TurnedAway { servers, source });
            }
        }
        if Instant::now() + pause >= deadline {
            return Err(ConnectError::NoServer { servers, source });
        }
        if !announced {
            info!(servers, "waiting for a NATS server at {servers}");
            announced = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

async fn options(config: &NatsConfig, name: &str) -> Result<ConnectOptions, ConnectError> {
    let options = ConnectOptions::new()
        .name(name)
        .connection_timeout(REQUEST_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        // A server that went without a goodbye is noticed after two of these.
        .ping_interval(Duration::from_secs(10))
        .event_callback(|event| async move { report(&event) });
    let Some(path) = &config.nats_credentials else {
        return Ok(options);
    };
    let loaded = options.credentials_file(path).await;
    loaded.map_err(|source| ConnectError::Credentials { path: path.clone(), source })
}

/// What the connection says of itself. Runs on the connection's own task, so it must not wait.
fn report(event: &Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        Event::Disconnected => warn!("disconnected from NATS"),
        Event::LameDuckMode => info!("the NATS server is about to stop"),
        Event::Draining | Event::Closed => info!("the connection to NATS is closed"),
        Event::SlowConsumer(subscription) => {
            metrics::counter!("tablecast_bus_slow_consumers_total").increment(1);
            warn!(subscription, "a full subscription drops messages");
        }
        Event::ServerError(error) => warn!(%error, "the NATS server complains"),
        Event::ClientError(error) => warn!(%error, "the NATS client complains"),
    }
}
