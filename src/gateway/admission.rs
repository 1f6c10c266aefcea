//! Who may connect: limits per client address and in all, checked before a connection is upgraded.

mod config;
mod turns;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::config::AdmissionConfig;
pub(super) use self::turns::Pace;
use self::turns::{Places, Turns};
use super::metrics;

/// The least that a client waits that finds no room, and over how long such clients are spread.
const RETRY_MS: u64 = 1000;
/// Over how long those are spread that come too soon: their turns are spread already.
const TURN_JITTER_MS: u64 = 50;
/// The longest that anybody waits for a promised place. Beyond that, none is promised.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Addresses that are told apart. Those beyond share one entry until others are idle.
const ADDRESSES_MAX: usize = 65_536;
/// Fewer are not worth looking through for idle ones.
const ADDRESSES_SWEPT: usize = 1024;
/// Stands for those beyond: no client has this address.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// Refusals of one reason are logged this often at most, with their number.
const NOTE_NANOS: u64 = 1_000_000_000;

/// Why somebody is not served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// Of everybody.
    #[error("this gateway serves as many connections as it can")]
    GatewayFull,
    /// Of this address.
    #[error("your address has as many connections as it may")]
    AddressFull,
    /// Everybody's connections come too fast.
    #[error("more connect to this gateway than it takes at once")]
    GatewayThrottled,
    /// This address's connections come too fast.
    #[error("your address connects too often")]
    AddressThrottled,
    /// This address's requests come too fast.
    #[error("your address asks too often")]
    RequestsThrottled,
    /// The gateway goes.
    #[error("this gateway stops: another one, or this one in a moment, takes over")]
    Stopping,
}

impl Reason {
    const COUNT: usize = 6;

    /// A stable name, for programs and as a metric label.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::GatewayFull => "gateway_full",
            Self::AddressFull => "address_full",
            Self::GatewayThrottled => "gateway_throttled",
            Self::AddressThrottled => "address_throttled",
            Self::RequestsThrottled => "requests_throttled",
            Self::Stopping => "stopping",
        }
    }

    /// Whether it is for what this client's own address does.
    pub(super) fn is_clients_own(self) -> bool {
        matches!(self, Self::AddressFull | Self::AddressThrottled | Self::RequestsThrottled)
    }
}

/// Not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When to come again.
    pub retry_after_ms: u64,
}

/// What one gateway takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdmissionLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Connections of one address at once.
    pub per_address_max: usize,
    /// How fast connections come.
    pub connects: Pace,
    /// How fast connections of one address come.
    pub address_connects: Pace,
    /// How fast HTTP requests of one address come.
    pub address_requests: Pace,
}

/// Counts connections, and how fast they come. An address is forgotten once it has none and is as good as new.
#[derive(Debug)]
pub(super) struct Admission {
    limits: AdmissionLimits,
    stopping: CancellationToken,
    start: Instant,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    all: usize,
    connects: Turns,
    by_address: HashMap<IpAddr, Address>,
    /// At how many addresses it is time to look for idle ones, and from when on.
    sweep_at: (usize, u64),
    notes: [Note; Reason::COUNT],
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    connects: Turns,
    places: Places,
    requests: Turns,
}

impl Address {
    fn is_idle(&mut self, now: u64) -> bool {
        let is_full = self.connects.is_full(now) && self.requests.is_full(now);
        self.connections == 0 && is_full && self.places.is_empty(now)
    }
}

/// Refusals that were not logged yet.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    count: u64,
    quiet_until: u64,
}

impl Admission {
    pub(super) fn new(
        limits: AdmissionLimits,
        stopping: CancellationToken,
        start: Instant,
    ) -> Arc<Self> {
        let counted = Counted {
            all: 0,
            connects: Turns::default(),
            by_address: HashMap::new(),
            sweep_at: (ADDRESSES_SWEPT, 0),
            notes: Default::default(),
        };
        Arc::new(Self { limits, stopping, start, counted: Mutex::new(counted) })
    }

    /// Takes a place, which is free again when the permit is dropped.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        now: Instant,
        jitter: u64,
    ) -> Result<Permit, Refusal> {
        let now = self.nanos(now);
        let mut counted = self.lock();
        let key = counted.place_for(known_as(client), now);
        if let Err((reason, wait_ms)) = self.try_admit(&mut counted, key, now, jitter) {
            return Err(counted.refuse(reason, wait_ms, client, now));
        }
        counted.all += 1;
        counted.of(key).connections += 1;
        metrics::addresses(counted.by_address.len());
        drop(counted);
        Ok(Permit { admission: Arc::clone(self), address: key })
    }

    fn try_admit(
        &self,
        counted: &mut Counted,
        key: IpAddr,
        now: u64,
        jitter: u64,
    ) -> Result<(), (Reason, u64)> {
        let limits = &self.limits;
        let later = RETRY_MS + jitter % RETRY_MS;
        if self.stopping.is_cancelled() {
            return Err((Reason::Stopping, later));
        }
        let (all, all_next) = (counted.all, counted.connects.next(limits.connects, now));
        let address = counted.of(key);
        if address.connections >= limits.per_address_max {
            return Err((Reason::AddressFull, later));
        }
        if all >= limits.connections_max {
            return Err((Reason::GatewayFull, later));
        }
        if address.places.claim(now) {
            return Ok(());
        }
        let own_next = address.connects.next(limits.address_connects, now);
        let next = own_next.max(all_next);
        let wait = Duration::from_nanos(next.saturating_sub(now));
        if wait <= WAIT_MAX {
            // Who is promised a place has had its turn.
            address.connects.take(limits.address_connects, now);
            if next > now {
                address.places.promise(next);
            }
            counted.connects.take(limits.connects, now);
        }
        if next <= now {
            return Ok(());
        }
        let reason =
            if own_next > now { Reason::AddressThrottled } else { Reason::GatewayThrottled };
        let jitter_ms = if wait <= WAIT_MAX { TURN_JITTER_MS } else { millis(WAIT_MAX) };
        Err((reason, millis(wait.min(WAIT_MAX)) + 1 + jitter % jitter_ms))
    }

    /// Whether a request that is no connection to stay may be answered now.
    pub(super) fn admit_request(
        &self,
        client: IpAddr,
        now: Instant,
        jitter: u64,
    ) -> Result<(), Refusal> {
        let (now, pace) = (self.nanos(now), self.limits.address_requests);
        let mut counted = self.lock();
        let key = counted.place_for(known_as(client), now);
        let requests = &mut counted.of(key).requests;
        let next = requests.next(pace, now);
        if next <= now {
            requests.take(pace, now);
            return Ok(());
        }
        let wait_ms = millis(Duration::from_nanos(next - now)) + 1 + jitter % RETRY_MS;
        Err(counted.refuse(Reason::RequestsThrottled, wait_ms, client, now))
    }

    fn nanos(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos).expect("no gateway runs for 584 years")
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Under which address this one is counted: its own, as long as there is room for more.
    fn place_for(&mut self, address: IpAddr, now: u64) -> IpAddr {
        let (sweep_len, sweep_from) = self.sweep_at;
        if self.by_address.len() >= sweep_len && now >= sweep_from {
            self.by_address.retain(|_, address| !address.is_idle(now));
            let next = (2 * self.by_address.len()).clamp(ADDRESSES_SWEPT, ADDRESSES_MAX);
            self.sweep_at = (next, now + NOTE_NANOS);
            metrics::addresses(self.by_address.len());
        }
        let has_room = self.by_address.len() < ADDRESSES_MAX;
        if has_room || self.by_address.contains_key(&address) { address } else { OTHERS }
    }

    fn of(&mut self, key: IpAddr) -> &mut Address {
        self.by_address.entry(key).or_default()
    }

    fn refuse(&mut self, reason: Reason, wait_ms: u64, client: IpAddr, now: u64) -> Refusal {
        metrics::refused(reason.code());
        let note = &mut self.notes[reason as usize];
        note.count += 1;
        if now >= note.quiet_until {
            let count = std::mem::take(&mut note.count);
            note.quiet_until = now + NOTE_NANOS;
            let code = reason.code();
            warn!(reason = code, count, %client, "refused {count} since the last such line: {reason}");
        }
        Refusal { reason, retry_after_ms: wait_ms }
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.admission.nanos(Instant::now());
        let mut counted = self.admission.lock();
        counted.all = counted.all.saturating_sub(1);
        let address = counted.of(self.address);
        address.connections = address.connections.saturating_sub(1);
        if address.is_idle(now) {
            counted.by_address.remove(&self.address);
        }
        metrics::addresses(counted.by_address.len());
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What one client is known by: of IPv6 it has a whole /64.
fn known_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests;
