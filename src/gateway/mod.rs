//! The gateway role: sessions, the tables they follow, and what each viewer may know.

mod accept;
mod action;
mod admission;
mod beats;
mod breaker;
mod commands;
mod config;
mod connection;
mod feed_task;
mod hedge;
#[cfg(test)]
#[path = "../../tests/support/hidden_number.rs"]
mod hidden_number;
mod http;
mod hub;
mod live_table;
mod lobby;
mod mailbox;
mod metrics;
mod outbox;
mod owners;
mod page;
mod run;
mod session;
mod socket;
mod subscriber;
mod table_feed;
mod throttle;
mod token;

pub use config::{ConfigError, GatewayConfig};
pub use run::{GatewayError, run};
pub use token::{Bearer, SecretTooShort, TokenError, TokenSecret, Tokens};
