//! The gateway's metrics: every name once, labels from closed sets only.

use std::time::Duration;

use ::metrics::{Counter, counter, gauge, histogram};
use axum::http::StatusCode;

use super::outbox::Hold;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::ServerFrame;
use crate::protocol::request::Verdict;

/// A connection is there.
pub(super) fn connected() {
    gauge!("tablecast_gateway_connections").increment(1.0);
}

/// A connection is gone.
pub(super) fn disconnected() {
    gauge!("tablecast_gateway_connections").decrement(1.0);
}

/// An HTTP request has its answer, or the beginning of it.
pub(super) fn answered(status: StatusCode, took: Duration) {
    let class = match status.as_u16() {
        0..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    counter!("tablecast_gateway_http_requests_total", "status" => class).increment(1);
    histogram!("tablecast_gateway_http_seconds").record(took.as_secs_f64());
}

/// An HTTP request could not be answered as it should have been.
pub(super) fn request_failed(why: &'static str) {
    counter!("tablecast_gateway_http_failed_total", "why" => why).increment(1);
}

/// A table is streamed as server-sent events.
pub(super) fn streaming() {
    gauge!("tablecast_gateway_event_streams").increment(1.0);
}

/// It is no more.
pub(super) fn streamed() {
    gauge!("tablecast_gateway_event_streams").decrement(1.0);
}

/// A connection was refused before its upgrade.
pub(super) fn refused(reason: &'static str) {
    counter!("tablecast_gateway_refused_total", "reason" => reason).increment(1);
}

/// How many client addresses have connections.
pub(super) fn addresses(tracked: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of less than 2^52")]
    gauge!("tablecast_gateway_addresses").set(tracked as f64);
}

/// We closed a socket.
pub(super) fn closed(code: CloseCode) {
    counter!("tablecast_gateway_closed_total", "reason" => code.reason()).increment(1);
}

/// A frame came.
pub(super) fn received() {
    counter!("tablecast_gateway_frames_received_total").increment(1);
}

/// Frames handed to sockets. Kept by whoever counts: to look a counter up takes longer than to hand a frame over.
pub(super) fn sent() -> Counter {
    counter!("tablecast_gateway_frames_sent_total")
}

/// How many connections this holds up.
pub(super) fn behind(hold: Hold, connections: u32) {
    let gauge = gauge!("tablecast_gateway_connections_behind", "reason" => hold.label());
    gauge.set(f64::from(connections));
}

/// How many players are kept in mind.
pub(super) fn players(kept: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of less than 2^52")]
    gauge!("tablecast_gateway_players").set(kept as f64);
}

/// A command was refused because too many players are kept in mind.
pub(super) fn players_full() {
    counter!("tablecast_gateway_players_full_total").increment(1);
}

/// Frames gave way to a newer snapshot.
pub(super) fn conflated(frames: usize) {
    counter!("tablecast_gateway_frames_conflated_total").increment(frames as u64);
}

/// A connection's frames have to wait for a token.
pub(super) fn throttled_out(hold: Hold) {
    let limit = hold.label();
    counter!("tablecast_gateway_throttled_total", "direction" => "out", "limit" => limit)
        .increment(1);
}

/// A player sends commands too fast, over all its connections.
pub(super) fn player_throttled() {
    throttled_in("player");
}

/// The session answered by itself.
pub(super) fn replied(frame: &ServerFrame) {
    match frame {
        ServerFrame::Error { code, .. } => match *code {
            "malformed" => counter!("tablecast_gateway_frames_malformed_total").increment(1),
            "throttled" => throttled_in("connection"),
            _ => {}
        },
        ServerFrame::Rejected { refusal, .. } => {
            if refusal.code == "throttled" {
                throttled_in("connection");
            }
            let class = class_of(&refusal.code);
            counter!("tablecast_gateway_commands_total", "verdict" => class).increment(1);
        }
        ServerFrame::Welcome { .. }
        | ServerFrame::Opened { .. }
        | ServerFrame::Accepted { .. }
        | ServerFrame::Subscribed { .. }
        | ServerFrame::Unsubscribed { .. }
        | ServerFrame::Lobby { .. }
        | ServerFrame::Status { .. }
        | ServerFrame::Goodbye { .. }
        | ServerFrame::Pong { .. } => {}
    }
}

fn throttled_in(limit: &'static str) {
    counter!("tablecast_gateway_throttled_total", "direction" => "in", "limit" => limit)
        .increment(1);
}

/// A command has its verdict.
pub(super) fn commanded(verdict: &Verdict, took: Duration) {
    let class = match verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Rejected(refusal) => class_of(&refusal.code),
    };
    counter!("tablecast_gateway_commands_total", "verdict" => class).increment(1);
    histogram!("tablecast_gateway_command_seconds").record(took.as_secs_f64());
}

/// Games name their own rules, so all of those share one label.
fn class_of(code: &str) -> &'static str {
    match code {
        "busy" => "busy",
        "throttled" => "throttled",
        "unavailable" => "unavailable",
        "at_capacity" => "at_capacity",
        "unknown_table" => "unknown_table",
        "unknown_kind" => "unknown_kind",
        "archived" => "archived",
        "not_identified" => "not_identified",
        "seat_only" => "seat_only",
        "too_many_tables" => "too_many_tables",
        _ => "rule",
    }
}

/// How many tables this gateway follows.
pub(super) fn followed(tables: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of less than 2^52")]
    gauge!("tablecast_gateway_tables_followed").set(tables as f64);
}

/// A gap in what was followed was read from the log.
pub(super) fn gap_repaired() {
    counter!("tablecast_gateway_feed_gaps_repaired_total").increment(1);
}

/// A message of a table was skipped.
pub(super) fn poison() {
    counter!("tablecast_gateway_poison_total").increment(1);
}

/// How old a commit was when it was fanned out.
pub(super) fn lag(millis: u64) {
    let lag = Duration::from_millis(millis).as_secs_f64();
    histogram!("tablecast_gateway_feed_lag_seconds").record(lag);
}

/// Somebody follows a table, and begins with commits from the `ring`, the `log` or the `archive`, or with a
/// `snapshot`.
pub(super) fn joined(from: &'static str) {
    counter!("tablecast_gateway_joins_total", "from" => from).increment(1);
}

/// A table was read from the log: from its worker's `snapshot`, from the last of its `commits` back, from the `front`;
/// or there is `nothing` of it, or only a `tombstone`.
pub(super) fn loaded(from: &'static str) {
    counter!("tablecast_gateway_loads_total", "from" => from).increment(1);
}

/// A table was looked for in the archive: `found`, `missing` or `failed`.
pub(super) fn archive_read(result: &'static str) {
    counter!("tablecast_gateway_archive_reads_total", "result" => result).increment(1);
}

/// A snapshot was saved by another version.
pub(super) fn snapshot_ignored() {
    counter!("tablecast_gateway_snapshots_ignored_total").increment(1);
}

/// A table was asked to be adopted, because its worker is gone.
pub(super) fn adoption_asked() {
    counter!("tablecast_gateway_adoptions_asked_total").increment(1);
}

/// Tables for whose adoption somebody is to be asked.
pub(super) fn orphans(tables: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of less than 2^52")]
    gauge!("tablecast_gateway_tables_orphaned").set(tables as f64);
}

/// A worker is not heard any more: fallen silent, or gone with a goodbye.
pub(super) fn worker_lost(why: &'static str) {
    counter!("tablecast_gateway_workers_lost_total", "why" => why).increment(1);
}

/// A command waits for its verdict.
pub(super) fn command_waits() {
    gauge!("tablecast_gateway_commands_waiting").increment(1.0);
}

/// A command waits no more.
pub(super) fn command_waited() {
    gauge!("tablecast_gateway_commands_waiting").decrement(1.0);
}

/// A command was refused because too many of all connections wait.
pub(super) fn command_shed() {
    counter!("tablecast_gateway_commands_shed_total").increment(1);
}

/// A request was sent again while the one before is unanswered.
pub(super) fn request_repeated() {
    counter!("tablecast_gateway_requests_repeated_total").increment(1);
}

/// Whether commands are refused because the bus cannot be reached.
pub(super) fn breaker(is_open: bool) {
    gauge!("tablecast_gateway_breaker_open").set(if is_open { 1.0 } else { 0.0 });
}

/// Messages of the bus may have been missed.
pub(super) fn interrupted() {
    counter!("tablecast_gateway_bus_interruptions_total").increment(1);
}

/// A token was not taken.
pub(super) fn token_refused(reason: &'static str) {
    counter!("tablecast_gateway_tokens_refused_total", "reason" => reason).increment(1);
}

/// The set of keys was asked for.
pub(super) fn jwks_refreshed(is_ok: bool) {
    let result = if is_ok { "ok" } else { "failed" };
    counter!("tablecast_gateway_jwks_refreshes_total", "result" => result).increment(1);
}

/// How many keys the set has.
pub(super) fn jwks_keys(keys: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of less than 2^52")]
    gauge!("tablecast_gateway_jwks_keys").set(keys as f64);
}

/// A page of another site was refused.
pub(super) fn origin_refused() {
    counter!("tablecast_gateway_origins_refused_total").increment(1);
}
