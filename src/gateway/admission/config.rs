//! Options that say who may connect.

use std::num::{NonZeroU32, NonZeroUsize};

use clap::Args;

use super::super::client_address::{Proxies, ProxyHeader, ProxyNet};
use super::{AdmissionLimits, Pace};

/// Who may connect, and how often.
#[derive(Args, Clone, Debug)]
pub struct AdmissionConfig {
    /// Connections that this gateway serves at once; more are refused with 503 before they are upgraded.
    #[arg(long, env = "TABLECAST_GATEWAY_CONNECTIONS_MAX", default_value = "20000")]
    pub connections_max: NonZeroUsize,
    /// Connections of one client address (of IPv6: one /64); more are refused with 429 before they are upgraded.
    #[arg(long, env = "TABLECAST_GATEWAY_CONNECTIONS_PER_ADDRESS_MAX", default_value = "20000")]
    pub connections_per_address_max: NonZeroUsize,
    /// New connections per second; more are told when it is their turn, with 503.
    #[arg(long, env = "TABLECAST_GATEWAY_CONNECT_RATE", default_value = "5000")]
    pub connect_rate: NonZeroU32,
    /// New connections at once.
    #[arg(long, env = "TABLECAST_GATEWAY_CONNECT_BURST", default_value = "10000")]
    pub connect_burst: NonZeroU32,
    /// New connections per second of one client address; more are told when it is their turn, with 429.
    #[arg(long, env = "TABLECAST_GATEWAY_CONNECT_RATE_PER_ADDRESS", default_value = "2000")]
    pub connect_rate_per_address: NonZeroU32,
    /// New connections at once of one client address.
    #[arg(long, env = "TABLECAST_GATEWAY_CONNECT_BURST_PER_ADDRESS", default_value = "10000")]
    pub connect_burst_per_address: NonZeroU32,
    /// HTTP requests per second of one client address, beside its connections; more are refused with 429.
    #[arg(long, env = "TABLECAST_GATEWAY_REQUEST_RATE", default_value = "500")]
    pub request_rate: NonZeroU32,
    /// HTTP requests at once of one client address.
    #[arg(long, env = "TABLECAST_GATEWAY_REQUEST_BURST", default_value = "5000")]
    pub request_burst: NonZeroU32,
    /// Address or network of a proxy whose word is taken on who its client is. May be repeated.
    #[arg(
        long,
        value_name = "NETWORK",
        env = "TABLECAST_GATEWAY_TRUSTED_PROXY",
        value_delimiter = ','
    )]
    pub trusted_proxy: Vec<ProxyNet>,
    /// The header in which those proxies say it. The other one is not looked at.
    #[arg(
        long,
        value_name = "HEADER",
        env = "TABLECAST_GATEWAY_PROXY_HEADER",
        default_value = "x-forwarded-for"
    )]
    pub proxy_header: ProxyHeader,
}

impl AdmissionConfig {
    /// What a gateway takes.
    pub(in crate::gateway) fn limits(&self) -> AdmissionLimits {
        AdmissionLimits {
            connections_max: self.connections_max.get(),
            per_address_max: self.connections_per_address_max.get(),
            connects: Pace::new(self.connect_burst, self.connect_rate),
            address_connects: Pace::new(
                self.connect_burst_per_address,
                self.connect_rate_per_address,
            ),
            address_requests: Pace::new(self.request_burst, self.request_rate),
        }
    }

    /// Whose word is taken.
    pub(in crate::gateway) fn proxies(&self) -> Proxies {
        Proxies::new(&self.trusted_proxy, self.proxy_header)
    }
}
