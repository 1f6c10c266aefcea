//! Who may connect: limits per client address and in all, checked before a connection is upgraded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics;

/// The least that a refused client waits, and over how long such clients are spread.
const RETRY_MS: u64 = 1000;

/// Whom a socket leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub IpAddr);

/// Not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Of everybody.
    #[error("this gateway serves as many connections as it can")]
    Full {
        /// When to come again.
        retry_after_ms: u64,
    },
    /// Of this address.
    #[error("your address has as many connections as it may")]
    AddressFull {
        /// When to come again.
        retry_after_ms: u64,
    },
}

impl Refusal {
    /// When to come again.
    pub(super) fn retry_after_ms(&self) -> u64 {
        match *self {
            Self::Full { retry_after_ms } | Self::AddressFull { retry_after_ms } => retry_after_ms,
        }
    }
}

/// Counts connections. Holds an address only while it has one, so it is bounded by the limit of all.
#[derive(Debug)]
pub(super) struct Admission {
    connections_max: usize,
    per_address_max: usize,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Admission {
    pub(super) fn new(connections_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { connections_max, per_address_max, counted: Mutex::default() })
    }

    /// Takes a place, which is free again when the permit is dropped.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, jitter: u64) -> Result<Permit, Refusal> {
        let address = client(peer);
        let retry_after_ms = RETRY_MS + jitter % RETRY_MS;
        let mut counted = self.lock();
        let of_address = counted.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= self.per_address_max {
            metrics::refused("address_full");
            return Err(Refusal::AddressFull { retry_after_ms });
        }
        if counted.all >= self.connections_max {
            metrics::refused("gateway_full");
            return Err(Refusal::Full { retry_after_ms });
        }
        counted.all += 1;
        counted.by_address.insert(address, of_address + 1);
        metrics::addresses(counted.by_address.len());
        drop(counted);
        Ok(Permit { admission: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut counted = self.admission.lock();
        counted.all = counted.all.saturating_sub(1);
        let left = counted.by_address.get_mut(&self.address).map_or(0, |of_address| {
            *of_address = of_address.saturating_sub(1);
            *of_address
        });
        if left == 0 {
            counted.by_address.remove(&self.address);
        }
        metrics::addresses(counted.by_address.len());
    }
}

/// What one client is known by: of IPv6 it has a whole /64.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let admission = Admission::new(3, 2);
        let first = admission.admit(ip("192.0.2.1"), 7).unwrap();
        let _second = admission.admit(ip("::ffff:192.0.2.1"), 7).unwrap();
        let refused = admission.admit(ip("192.0.2.1"), 7).unwrap_err();
        assert_eq!(refused, Refusal::AddressFull { retry_after_ms: 1007 });
        let third = admission.admit(ip("192.0.2.2"), 0).unwrap();
        let refused = admission.admit(ip("192.0.2.3"), 0).unwrap_err();
        assert_eq!(refused, Refusal::Full { retry_after_ms: 1000 });
        drop(first);
        drop(third);
        assert_eq!(admission.lock().by_address.len(), 1);
        let _again = admission.admit(ip("192.0.2.1"), 0).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        assert_eq!(client(ip("2001:db8::1")), client(ip("2001:db8::2:3:4:5")));
        assert_ne!(client(ip("2001:db8::1")), client(ip("2001:db8:0:1::1")));
    }
}
