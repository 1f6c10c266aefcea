//! The gateway role: builds its parts, serves until told to stop, and lets go in order.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::accept::{self, Times};
use super::admission::Admission;
use super::archived::Archived;
use super::auth::AuthError;
use super::breaker::Breaker;
use super::commands::Dispatcher;
use super::config::{ConfigError, GatewayConfig};
use super::feed_task::{self, FeedContext};
use super::http::{self, Shared};
use super::hub::Hub;
use super::lobby::{self, Board};
use super::metrics;
use super::middleware::Around;
use super::origin::AllowedOrigins;
use super::overseer::Overseer;
use super::owners::{self, Owners};
use super::players::Players;
use super::registry::Registry;
use super::served::Served;
use crate::archive::StoreError;
use crate::bus::Bus;
use crate::catalog::Catalog;
use crate::protocol::request::{GatewayBeat, encode};
use crate::protocol::subject;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::health::{self, Readiness};

/// How often a gateway says that it is alive.
const BEAT: Duration = Duration::from_millis(250);

/// Why a gateway stopped without being told to.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Options that do not go together.
    #[error("the gateway cannot be configured like this")]
    Config(#[from] ConfigError),
    /// A key that cannot be used.
    #[error("players' tokens cannot be checked")]
    Auth(#[from] AuthError),
    /// Its store.
    #[error("the archive cannot be opened")]
    Archive(#[from] StoreError),
    /// The listener.
    #[error("the gateway cannot accept connections")]
    Accept {
        /// What the system says.
        source: std::io::Error,
    },
    /// A task that all connections depend on.
    #[error("a shared task of the gateway has failed")]
    SharedTask {
        /// Its panic.
        source: tokio::task::JoinError,
    },
}

/// Serves players and spectators until `shutdown`, then tells them to come back and lets go.
///
/// # Errors
/// If it cannot start, or a part that everything depends on fails.
pub async fn run(
    config: GatewayConfig,
    listener: TcpListener,
    bus: Bus,
    catalog: Catalog,
    time: (Clock, Entropy),
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    config.validate()?;
    let address = listener.local_addr();
    let address = address.map_err(|source| GatewayError::Accept { source })?;
    info!(%address, ?config, "the gateway serves on {address}");
    let tasks = Tasks::default();
    let readiness = Readiness::new();
    let owners = Owners::new(config.care(), time.1.clone());
    let served = served(&config, &bus, &catalog, time, &owners, &tasks)?;
    let mut shared_tasks = JoinSet::new();
    let (board, breaker) = (Arc::clone(&served.board), Arc::clone(&served.dispatcher.breaker));
    let stop = || tasks.stop.clone();
    shared_tasks.spawn(lobby::run(board, bus.clone(), readiness.part("lobby"), stop()));
    let (patience, ready) = (config.bus_patience, readiness.part("bus"));
    shared_tasks.spawn(breaker.run(bus.clone(), served.clock, patience, ready, stop()));
    let (hub, breaker) = (Arc::clone(&served.hub), Arc::clone(&served.dispatcher.breaker));
    shared_tasks.spawn(owners::run(owners, hub, bus.clone(), breaker, stop()));
    let bus_states = served.dispatcher.breaker.states();
    shared_tasks.spawn(Arc::clone(&served.registry).run(bus_states, shutdown.clone()));
    shared_tasks.spawn(Overseer::new(&served).run(bus.clone(), stop()));
    shared_tasks.spawn(beat(Arc::clone(&served.gateway), bus.clone(), stop()));
    if let Some(jwks) = served.tokens.jwks() {
        shared_tasks.spawn(Arc::clone(jwks).run(stop()));
    }
    readiness.set_ready();
    let gateway = Arc::clone(&served.gateway);
    let admission = Admission::new(config.admission.limits(), shutdown.clone(), Instant::now());
    let around = Around {
        admission: Arc::clone(&admission),
        proxies: config.admission.proxies(),
        origins: AllowedOrigins::new(&config.allow_origin),
        entropy: served.entropy.clone(),
        answer_timeout: config.answer_timeout,
    };
    let shared = Shared {
        guest_ttl: config.guest_tokens.then_some(config.guest_token_ttl),
        catalog,
        served,
        admission,
        connections: tasks.connections.clone(),
    };
    let router = http::routes(shared, around).merge(health::routes(readiness.clone(), metrics));
    let stopping = shutdown.clone();
    let times = Times { head: config.request_timeout, slow: config.slow_timeout };
    let serve = accept::serve(listener, router, times, stopping);
    let ended = tokio::select! {
        // Why it ended, if it was not told to, before the news that it was.
        biased;
        () = serve => Ok(()),
        Some(Err(source)) = shared_tasks.join_next() => Err(GatewayError::SharedTask { source }),
        () = overdue(&shutdown, config.drain_timeout) => Ok(()),
    };
    readiness.set_unready("stopping");
    shutdown.cancel();
    tasks.let_go(config.drain_timeout).await;
    say(&gateway, &bus, true).await;
    shared_tasks.shutdown().await;
    info!("the gateway has stopped");
    ended
}

/// Says that this gateway is alive, until stopped: else owners take its players for gone.
async fn beat(gateway: Arc<str>, bus: Bus, stop: CancellationToken) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // No beat may come after the goodbye.
            biased;
            () = stop.cancelled() => return,
            _ = beats.tick() => say(&gateway, &bus, false).await,
        }
    }
}

async fn say(gateway: &Arc<str>, bus: &Bus, goodbye: bool) {
    let beat = encode(&GatewayBeat { gateway: gateway.as_ref().to_owned(), goodbye });
    if let Err(error) = bus.mail.notify(subject::gate(gateway), beat).await {
        debug!(%error, "this gateway cannot say that it is alive");
    }
}

/// A client that keeps an HTTP request open must not keep the gateway.
async fn overdue(shutdown: &CancellationToken, patience: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(patience).await;
}

fn served(
    config: &GatewayConfig,
    bus: &Bus,
    catalog: &Catalog,
    (clock, entropy): (Clock, Entropy),
    owners: &Arc<Owners>,
    tasks: &Tasks,
) -> Result<Arc<Served>, GatewayError> {
    let gateway: Arc<str> = format!("{:016x}", u64::from_le_bytes(entropy.bytes())).into();
    let breaker = Breaker::new(clock.now());
    let context = FeedContext {
        bus: bus.clone(),
        catalog: catalog.clone(),
        clock,
        entropy: entropy.clone(),
        owners: Arc::clone(owners),
        breaker: Arc::clone(&breaker),
        reads: Semaphore::new(feed_task::READS_AT_ONCE),
        archived: config.archive.open()?.map(Archived::new),
        ring_len: config.ring.get(),
        linger: config.linger,
        gateway: Arc::clone(&gateway),
        shutdown: tasks.stop.clone(),
    };
    let hub = Hub::new(context, tasks.feeds.clone());
    let board = Arc::<Board>::default();
    let dispatcher = Arc::new(Dispatcher {
        players: Arc::new(Players::new(config.player_limits(), Instant::now())),
        board: Arc::clone(&board),
        gateway: Arc::clone(&gateway),
        bus: bus.clone(),
        catalog: catalog.clone(),
        hub: Arc::clone(&hub),
        owners: Arc::clone(owners),
        breaker: Arc::clone(&breaker),
        clock,
        entropy: entropy.clone(),
        room: Semaphore::new(config.commands_waiting_max.get()),
    });
    Ok(Arc::new(Served {
        gateway,
        hub,
        board,
        dispatcher,
        registry: Arc::new(Registry::new(*breaker.states().borrow())),
        entropy,
        tokens: config.auth.tokens()?,
        session: config.session_limits(),
        outbox: config.outbox_limits(),
        slow_timeout: config.slow_timeout,
        send_buffer: config.socket_buffer.get(),
        deflates: !config.no_deflate,
        sent: metrics::sent(),
        clock,
        reconnect_window: config.reconnect_window,
        next_connection: AtomicU64::new(0),
    }))
}

/// Everything that runs, in the order in which it lets go: connections leave their tables, feeds tell the
/// tables' owners who went, and only then what both depend on stops.
#[derive(Default)]
struct Tasks {
    connections: TaskTracker,
    feeds: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    async fn let_go(&self, patience: Duration) {
        self.connections.close();
        if timeout(patience, self.connections.wait()).await.is_err() {
            let left = self.connections.len();
            warn!(connections = left, "{left} connections did not end in time");
        }
        self.stop.cancel();
        self.feeds.close();
        if timeout(patience, self.feeds.wait()).await.is_err() {
            warn!("the owners of some tables were not told who went");
        }
    }
}
