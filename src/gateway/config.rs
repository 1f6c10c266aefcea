//! What a gateway can be told when it starts.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::Args;

use super::admission::AdmissionConfig;
use super::auth::AuthConfig;
use super::origin::AllowedOrigin;
use super::outbox::OutboxLimits;
use super::owners::CareLimits;
use super::players::PlayerLimits;
use super::session::SessionLimits;
use super::throttle::Rate;
use crate::archive::ArchiveConfig;

/// Options of the gateway role.
#[derive(Args, Clone, Debug)]
pub struct GatewayConfig {
    /// Address to listen on.
    #[arg(long, env = "TABLECAST_GATEWAY_BIND", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Port to listen on; 0 takes any that is free.
    #[arg(long, env = "TABLECAST_GATEWAY_PORT", default_value_t = 8420)]
    pub port: u16,
    /// Whose tokens are taken.
    #[command(flatten)]
    pub auth: AuthConfig,
    /// Where tables are that are over.
    #[command(flatten)]
    pub archive: ArchiveConfig,
    /// Origin of a page that may connect, as in `https://play.example.com`, beside those of this gateway's own
    /// address; * allows all. May be repeated.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "TABLECAST_GATEWAY_ALLOW_ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<AllowedOrigin>,
    /// Give a token to anyone who asks `POST /v1/guest` for one.
    #[arg(long, env = "TABLECAST_GATEWAY_GUEST_TOKENS")]
    pub guest_tokens: bool,
    /// How long a guest's token is good.
    #[arg(long, env = "TABLECAST_GATEWAY_GUEST_TOKEN_TTL", default_value = "7d", value_parser = humantime::parse_duration)]
    pub guest_token_ttl: Duration,
    /// Largest frame a client may send, in bytes; a larger one closes its socket.
    #[arg(long, env = "TABLECAST_GATEWAY_FRAME_BYTES_MAX", default_value = "65536")]
    pub frame_bytes_max: NonZeroUsize,
    /// How many tables one connection may follow.
    #[arg(long, env = "TABLECAST_GATEWAY_SUBSCRIPTIONS_MAX", default_value = "64")]
    pub subscriptions_max: NonZeroUsize,
    /// How many commands of one connection may be under way; more are rejected as `busy`.
    #[arg(long, env = "TABLECAST_GATEWAY_COMMANDS_MAX", default_value = "16")]
    pub commands_max: NonZeroUsize,
    /// How many commands of all connections may wait for a verdict; more are rejected as `busy`.
    #[arg(long, env = "TABLECAST_GATEWAY_COMMANDS_WAITING_MAX", default_value = "8192")]
    pub commands_waiting_max: NonZeroUsize,
    /// How long a worker may be silent before others are asked to adopt its tables; at least two and a half of
    /// its beats.
    #[arg(long, env = "TABLECAST_GATEWAY_WORKER_SILENCE", default_value = "700ms", value_parser = humantime::parse_duration)]
    pub worker_silence: Duration,
    /// How many tables this gateway asks others to adopt, each second.
    #[arg(long, env = "TABLECAST_GATEWAY_ADOPTION_RATE", default_value = "2000")]
    pub adoption_rate: NonZeroU32,
    /// How long the bus may not answer before commands are rejected at once, until it does.
    #[arg(long, env = "TABLECAST_GATEWAY_BUS_PATIENCE", default_value = "1s", value_parser = humantime::parse_duration)]
    pub bus_patience: Duration,
    /// Who may connect.
    #[command(flatten)]
    pub admission: AdmissionConfig,
    /// How long a client may take to send the head of a request, and to send the next one.
    #[arg(long, env = "TABLECAST_GATEWAY_REQUEST_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    pub request_timeout: Duration,
    /// How long the answer to a request may take to begin; after that it is 504.
    #[arg(long, env = "TABLECAST_GATEWAY_ANSWER_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    pub answer_timeout: Duration,
    /// How often a connection is pinged; one that shows no sign of life for three pings is closed.
    #[arg(long, env = "TABLECAST_GATEWAY_PING_INTERVAL", default_value = "20s", value_parser = humantime::parse_duration)]
    pub ping_interval: Duration,
    /// How long a new connection may say nothing before it is closed.
    #[arg(long, env = "TABLECAST_GATEWAY_HELLO_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    pub hello_timeout: Duration,
    /// How long a socket may take nothing of what is sent before it is closed.
    #[arg(long, env = "TABLECAST_GATEWAY_SLOW_TIMEOUT", default_value = "15s", value_parser = humantime::parse_duration)]
    pub slow_timeout: Duration,
    /// Frames per second that one connection may send; more are answered with `throttled`.
    #[arg(long, env = "TABLECAST_GATEWAY_INBOUND_RATE", default_value = "20")]
    pub inbound_rate: NonZeroU32,
    /// Frames that one connection may send at once.
    #[arg(long, env = "TABLECAST_GATEWAY_INBOUND_BURST", default_value = "60")]
    pub inbound_burst: NonZeroU32,
    /// Commands per second that one player may send over all its connections of this gateway.
    #[arg(long, env = "TABLECAST_GATEWAY_PLAYER_RATE", default_value = "30")]
    pub player_rate: NonZeroU32,
    /// Commands that one player may send at once over all its connections of this gateway.
    #[arg(long, env = "TABLECAST_GATEWAY_PLAYER_BURST", default_value = "90")]
    pub player_burst: NonZeroU32,
    /// How many tables that one player has opened at this gateway may be open; more are refused as
    /// `too_many_tables`.
    #[arg(long, env = "TABLECAST_GATEWAY_TABLES_PER_PLAYER", default_value = "32")]
    pub tables_per_player: NonZeroUsize,
    /// How many players with recent commands or open tables are kept in mind; commands of more are rejected as
    /// `busy`.
    #[arg(long, env = "TABLECAST_GATEWAY_PLAYERS_MAX", default_value = "100000")]
    pub players_max: NonZeroUsize,
    /// Frames per second that one connection is sent of one table; a faster table is conflated.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOUND_TABLE_RATE", default_value = "100")]
    pub outbound_table_rate: NonZeroU32,
    /// Frames of one table that one connection is sent at once.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOUND_TABLE_BURST", default_value = "1000")]
    pub outbound_table_burst: NonZeroU32,
    /// Frames per second that one connection is sent of all its tables.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOUND_RATE", default_value = "1000")]
    pub outbound_rate: NonZeroU32,
    /// Frames of all its tables that one connection is sent at once.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOUND_BURST", default_value = "4000")]
    pub outbound_burst: NonZeroU32,
    /// Bytes per second that one connection is sent; what is more waits, and is conflated.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOUND_BYTES_RATE", default_value = "1048576")]
    pub outbound_bytes_rate: NonZeroU32,
    /// Bytes that one connection is sent at once. A larger frame still goes out, and is paid for before the next.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOUND_BYTES_BURST", default_value = "4194304")]
    pub outbound_bytes_burst: NonZeroU32,
    /// Frames of one table that may wait for one connection; more are conflated.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOX_FRAMES", default_value = "64")]
    pub outbox_frames: NonZeroUsize,
    /// Bytes of one table that may wait for one connection; more are conflated.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOX_BYTES", default_value = "262144")]
    pub outbox_bytes: NonZeroUsize,
    /// How long a table's frame may wait for one connection; after that, a snapshot is sent instead.
    #[arg(long, env = "TABLECAST_GATEWAY_OUTBOX_AGE", default_value = "1s", value_parser = humantime::parse_duration)]
    pub outbox_age: Duration,
    /// Bytes that the kernel holds of what was written to one socket: more is faster over long ways, and what is
    /// held can give way to nothing newer.
    #[arg(long, env = "TABLECAST_GATEWAY_SOCKET_BUFFER", default_value = "65536")]
    pub socket_buffer: NonZeroUsize,
    /// Sends JSON as it is to clients that ask for permessage-deflate, too.
    #[arg(long, env = "TABLECAST_GATEWAY_NO_DEFLATE")]
    pub no_deflate: bool,
    /// Commits of each followed table that are kept for clients that resume.
    #[arg(long, env = "TABLECAST_GATEWAY_RING", default_value = "128")]
    pub ring: NonZeroUsize,
    /// How long a table is followed after the last client has left it.
    #[arg(long, env = "TABLECAST_GATEWAY_LINGER", default_value = "30s", value_parser = humantime::parse_duration)]
    pub linger: Duration,
    /// Over what time clients are spread that are told to come back when the gateway stops.
    #[arg(long, env = "TABLECAST_GATEWAY_RECONNECT_WINDOW", default_value = "5s", value_parser = humantime::parse_duration)]
    pub reconnect_window: Duration,
    /// How long connections have to end when the gateway stops.
    #[arg(long, env = "TABLECAST_GATEWAY_DRAIN_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
}

/// Options that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A duration of zero where time has to pass.
    #[error("--{option} must be longer than nothing")]
    NoTime {
        /// Which.
        option: &'static str,
    },
    /// One frame of the largest kind would not fit.
    #[error("--outbox-bytes must be at least --frame-bytes-max")]
    OutboxTooSmall,
    /// Nobody could say hello.
    #[error("players' tokens need a key: give --token-secret, --token-key or --jwks-url")]
    NoKeys,
    /// Guests' tokens are signed with the secret.
    #[error("--guest-tokens needs --token-secret")]
    GuestsWithoutSecret,
    /// Guests would come with a token that has expired.
    #[error("--guest-token-ttl must be at least a minute")]
    GuestTokenTooShort,
}

impl GatewayConfig {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    /// Checks what clap cannot. Called before a port is bound.
    ///
    /// # Errors
    /// Options that do not go together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let times = [
            ("worker-silence", self.worker_silence),
            ("bus-patience", self.bus_patience),
            ("ping-interval", self.ping_interval),
            ("hello-timeout", self.hello_timeout),
            ("request-timeout", self.request_timeout),
            ("answer-timeout", self.answer_timeout),
            ("slow-timeout", self.slow_timeout),
            ("outbox-age", self.outbox_age),
            ("drain-timeout", self.drain_timeout),
            ("jwks-max-age", self.auth.jwks_max_age),
        ];
        if let Some((option, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
            return Err(ConfigError::NoTime { option });
        }
        if self.outbox_bytes < self.frame_bytes_max {
            return Err(ConfigError::OutboxTooSmall);
        }
        if !self.auth.has_keys() {
            return Err(ConfigError::NoKeys);
        }
        if self.guest_tokens && self.auth.token_secret.is_none() {
            return Err(ConfigError::GuestsWithoutSecret);
        }
        if self.guest_token_ttl < Duration::from_secs(60) {
            return Err(ConfigError::GuestTokenTooShort);
        }
        Ok(())
    }

    /// What one session may do.
    pub(super) fn session_limits(&self) -> SessionLimits {
        let (burst, rate) = (self.inbound_burst, self.inbound_rate);
        let times = |number: NonZeroU32, by: u32| {
            NonZeroU32::new(number.get().saturating_mul(by)).unwrap_or(number)
        };
        SessionLimits {
            frame_bytes_max: self.frame_bytes_max.get(),
            subscriptions_max: self.subscriptions_max.get(),
            commands_max: self.commands_max.get(),
            rate: Rate::per_second(burst, rate),
            // Whoever heeds half of the `throttled` answers is not cut off.
            flood_rate: Rate::per_second(times(burst, 4), times(rate, 2)),
            ping_interval: self.ping_interval,
            hello_timeout: self.hello_timeout,
        }
    }

    /// When and how fast tables get another owner.
    pub(super) fn care(&self) -> CareLimits {
        // A tenth of a second's worth at once: a storm is spread from its beginning.
        let burst = NonZeroU32::new(self.adoption_rate.get() / 10).unwrap_or(NonZeroU32::MIN);
        CareLimits {
            silence: self.worker_silence,
            rate: Rate::per_second(burst, self.adoption_rate),
        }
    }

    /// What one player may do.
    pub(super) fn player_limits(&self) -> PlayerLimits {
        PlayerLimits {
            rate: Rate::per_second(self.player_burst, self.player_rate),
            tables_max: self.tables_per_player.get(),
            players_max: self.players_max.get(),
        }
    }

    /// What one outbox may hold.
    pub(super) fn outbox_limits(&self) -> OutboxLimits {
        OutboxLimits {
            frames_per_table: self.outbox_frames.get(),
            bytes_per_table: self.outbox_bytes.get(),
            age: self.outbox_age,
            table_rate: Rate::per_second(self.outbound_table_burst, self.outbound_table_rate),
            connection_rate: Rate::per_second(self.outbound_burst, self.outbound_rate),
            byte_rate: Rate::per_second(self.outbound_bytes_burst, self.outbound_bytes_rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        gateway: GatewayConfig,
    }

    const SECRET: &str = "--token-secret=0123456789abcdef0123456789abcdef";

    fn parse(options: &[&str]) -> Result<GatewayConfig, clap::Error> {
        let line = ["gateway", SECRET].into_iter().chain(options.iter().copied());
        Line::try_parse_from(line).map(|line| line.gateway)
    }

    #[test]
    fn the_defaults_go_together() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.address().to_string(), "127.0.0.1:8420");
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn impossible_values_are_refused_before_anything_starts() {
        for option in [
            "--port=70000",
            "--inbound-rate=0",
            "--ring=0",
            "--ping-interval=fast",
            "--token-secret=short",
            "--bind=everywhere",
            "--jwks-url=file:///etc/keys",
            "--jwks-url=https://me:secret@keys.example/",
            "--allow-origin=play.example",
            "--trusted-proxy=proxy.example",
            "--proxy-header=x-real-ip",
            "--connect-rate=0",
        ] {
            assert!(parse(&[option]).is_err(), "{option} was taken");
        }
        let config = parse(&["--ping-interval=0s"]).unwrap();
        let option = "ping-interval";
        assert_eq!(config.validate(), Err(ConfigError::NoTime { option }));
        let keyless = ["gateway", "--guest-tokens"];
        let mut config = Line::try_parse_from(keyless).unwrap().gateway;
        config.auth.token_secret = None;
        assert_eq!(config.validate(), Err(ConfigError::NoKeys));
        config.auth.token_key = vec!["key.pem".into()];
        assert_eq!(config.validate(), Err(ConfigError::GuestsWithoutSecret));
        let config = parse(&["--outbox-bytes=10"]).unwrap();
        assert_eq!(config.validate(), Err(ConfigError::OutboxTooSmall));
    }
}
