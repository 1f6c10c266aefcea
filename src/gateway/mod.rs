//! The gateway role: sessions, the tables they follow, and what each viewer may know.

mod accept;
mod action;
mod admission;
mod archived;
mod auth;
mod beats;
mod breaker;
mod client_address;
mod commands;
mod config;
mod connection;
mod feed_task;
#[doc(hidden)]
pub mod fuzzing;
mod hedge;
#[cfg(test)]
#[path = "../../tests/support/hidden_number.rs"]
mod hidden_number;
mod http;
mod hub;
mod live_table;
mod load;
mod lobby;
mod mailbox;
mod metrics;
mod middleware;
mod missed;
mod origin;
mod outbox;
mod overseer;
mod owners;
mod page;
mod patient;
mod players;
mod registry;
mod run;
mod seat_token;
mod served;
mod session;
mod sse;
mod subscriber;
mod table_feed;
mod throttle;
mod token;
mod wire;
mod ws;

pub use admission::AdmissionConfig;
pub use auth::{AuthConfig, AuthError};
pub use client_address::{NoNetwork, ProxyHeader, ProxyNet};
pub use config::{ConfigError, GatewayConfig};
pub use origin::{AllowedOrigin, NoOrigin};
pub use run::{GatewayError, run};
pub use token::{
    Audience, Bearer, CheckingKey, Claims, Jwks, JwksError, JwksUrl, KeyError, Policy, SeatBound,
    SeatClaim, SecretTooShort, SigningKey, TokenError, TokenSecret, Tokens, read_unchecked,
};
