//! The protocol state of one connection. Pure: a client's frames and the time in, actions out.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use litemap::LiteMap;
use tokio::time::Instant;
use tracing::debug;

use super::action::{Action, Ask, Incoming};
use super::commands::Wish;
use super::metrics;
use super::throttle::{Bucket, BucketTime, Rate};
use super::token::{Bearer, SeatBound, TokenError, Tokens};
use crate::domain::{CommandId, Identity, TableId, TableSeq, Timestamp};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{ClientFrame, Deliver, Format, ServerFrame};
use crate::protocol::request::Refusal;

/// The limits of one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionLimits {
    /// The largest frame a client may send.
    pub frame_bytes_max: usize,
    /// How many tables it may follow.
    pub subscriptions_max: usize,
    /// How many of its commands may be under way.
    pub commands_max: usize,
    /// How fast it may send frames.
    pub rate: Rate,
    /// How fast it may send frames in spite of `throttled` answers, before it is cut off.
    pub flood_rate: Rate,
    /// How often we ping.
    pub ping_interval: Duration,
    /// When a connection that has said nothing is closed.
    pub hello_timeout: Duration,
}

/// Frames that are not of the protocol, at once and each minute, before the socket is closed.
pub(super) const BAD_FRAMES: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Pings without any sign of life before the socket is closed.
const PINGS_UNANSWERED: u32 = 3;
/// Frames that wait until it is known whose they are.
const HELD_MAX: usize = 64;
/// When it is worth sending a frame again that found too many before it.
const HELD_RETRY: Duration = Duration::from_secs(1);
/// When it is worth sending a command again that found too many before it.
const BUSY_RETRY_MS: u64 = 250;

/// The protocol state of one connection.
#[derive(Debug)]
pub(super) struct Session {
    format: Format,
    limits: SessionLimits,
    tokens: Tokens,
    bearer: Option<Bearer>,
    /// When the bearer's token is believed no more.
    ends_at: Option<Instant>,
    /// Frames that came after a `hello` whose key is looked for.
    held: Option<VecDeque<ClientFrame>>,
    subscriptions: LiteMap<TableId, Deliver>,
    /// Commands that wait for an earlier one to the same table; an entry for each table with one under way.
    lines: BTreeMap<TableId, VecDeque<Ask>>,
    commands: usize,
    rate: Bucket,
    flood: Bucket,
    bad_frames: Bucket,
    opened_at: Instant,
    has_spoken: bool,
    heard_at: Instant,
    ping_at: Instant,
}

impl Session {
    /// A connection that has just been accepted.
    pub(super) fn new(format: Format, limits: SessionLimits, tokens: Tokens, now: Instant) -> Self {
        let time = BucketTime::starting_at(now);
        Self {
            format,
            limits,
            tokens,
            bearer: None,
            ends_at: None,
            held: None,
            subscriptions: LiteMap::with_capacity(1),
            lines: BTreeMap::new(),
            commands: 0,
            rate: Bucket::full(limits.rate, &time),
            flood: Bucket::full(limits.flood_rate, &time),
            bad_frames: Bucket::full(Rate::per_minute(BAD_FRAMES, BAD_FRAMES), &time),
            opened_at: now,
            has_spoken: false,
            heard_at: now,
            ping_at: now + limits.ping_interval,
        }
    }

    /// The frame with which a connection begins.
    pub(super) fn welcome(&self, wall: Timestamp) -> ServerFrame {
        let who = self.bearer.as_ref().map(|bearer| &bearer.identity);
        let ping_interval_ms = u64::try_from(self.limits.ping_interval.as_millis());
        ServerFrame::Welcome {
            player: who.map(|who| who.player.clone()),
            name: who.map(|who| who.name.clone()),
            expires_at: self.bearer.as_ref().map(|bearer| bearer.expires_at),
            now: wall,
            ping_interval_ms: ping_interval_ms.unwrap_or(u64::MAX),
            frame_bytes_max: self.limits.frame_bytes_max,
            subscriptions_max: self.limits.subscriptions_max,
        }
    }

    /// Whose connection this is.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.bearer.as_ref().map(|bearer| &bearer.identity)
    }

    /// The one seat that the token is for, if it is for one.
    fn seat(&self) -> Option<SeatBound> {
        self.bearer.as_ref().and_then(|bearer| bearer.seat)
    }

    /// A message came.
    pub(super) fn on_message(
        &mut self,
        message: Incoming<'_>,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Action> {
        self.heard_at = now;
        if self.flood.try_take(now).is_err() {
            return vec![Action::Close(CloseCode::Flood)];
        }
        let bytes = match (message, self.format) {
            (Incoming::Control, _) => return vec![],
            (Incoming::Text(bytes), Format::Json) => bytes,
            (Incoming::Binary(bytes), Format::MessagePack) => bytes,
            (Incoming::Text(_), Format::MessagePack) | (Incoming::Binary(_), Format::Json) => {
                return vec![Action::Close(CloseCode::WrongFormat)];
            }
        };
        if bytes.len() > self.limits.frame_bytes_max {
            return vec![Action::Close(CloseCode::FrameTooBig)];
        }
        let frame = match self.format.decode(bytes) {
            Ok(frame) => frame,
            Err(reason) => return self.on_malformed(reason, now),
        };
        self.has_spoken = true;
        if let Err(wait) = self.rate.try_take(now) {
            return vec![throttled(frame, wait)];
        }
        self.on_frame(frame, now, wall)
    }

    fn on_malformed(&mut self, message: String, now: Instant) -> Vec<Action> {
        if self.bad_frames.try_take(now).is_err() {
            return vec![Action::Close(CloseCode::BadFrames)];
        }
        vec![error("malformed", message)]
    }

    fn on_frame(&mut self, frame: ClientFrame, now: Instant, wall: Timestamp) -> Vec<Action> {
        let is_ping = matches!(frame, ClientFrame::Ping { .. });
        if let Some(held) = self.held.as_mut().filter(|_| !is_ping) {
            if held.len() >= HELD_MAX {
                return vec![throttled(frame, HELD_RETRY)];
            }
            held.push_back(frame);
            return vec![];
        }
        match frame {
            ClientFrame::Hello { token } => self.on_hello(token, now, wall),
            ClientFrame::Open { id, kind, setup, options, seats } => {
                if let Some(bound) = self.seat() {
                    return vec![rejected(id, None, bound.refusal())];
                }
                let wish = Wish { kind, setup, options, seats };
                self.on_command(id, None, |id, by| Ask::Open { id, by, wish })
            }
            ClientFrame::Command { id, table, mut command } => {
                let allowed = self.seat().map(|bound| bound.allow(table, &mut command));
                if let Some(Err(refusal)) = allowed {
                    return vec![rejected(id, Some(table), refusal)];
                }
                self.on_command(id, Some(table), |id, by| Ask::Command { id, by, table, command })
            }
            ClientFrame::Subscribe { table, cursor, deliver } => {
                self.on_subscribe(table, cursor, deliver)
            }
            ClientFrame::Unsubscribe { table } => {
                self.subscriptions.remove(&table);
                let reason = "asked";
                vec![
                    Action::Unfollow { table },
                    Action::Reply(ServerFrame::Unsubscribed { table, reason }),
                ]
            }
            ClientFrame::WatchLobby => vec![Action::WatchLobby],
            ClientFrame::UnwatchLobby => vec![Action::UnwatchLobby],
            ClientFrame::Ping { data } => {
                vec![Action::Reply(ServerFrame::Pong { data, now: wall })]
            }
        }
    }

    fn on_hello(&mut self, token: String, now: Instant, wall: Timestamp) -> Vec<Action> {
        match self.tokens.check(&token, wall) {
            Err(TokenError::UnknownKey) => {
                self.held = Some(VecDeque::new());
                vec![Action::FindKey(token)]
            }
            checked => self.on_checked(checked, now, wall),
        }
    }

    /// The key of a token was looked for: what came after the `hello` goes on.
    pub(super) fn on_found(
        &mut self,
        checked: Result<Bearer, TokenError>,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Action> {
        let held = self.held.take();
        let mut actions = self.on_checked(checked, now, wall);
        for frame in held.into_iter().flatten() {
            actions.extend(self.on_frame(frame, now, wall));
        }
        actions
    }

    fn on_checked(
        &mut self,
        checked: Result<Bearer, TokenError>,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Action> {
        let bearer = match checked {
            Ok(bearer) => bearer,
            Err(error) => return vec![refused(error)],
        };
        let before = self.bearer.as_ref().map(|bearer| &bearer.identity.player);
        if before.is_some_and(|before| *before != bearer.identity.player) {
            let message = "this connection is another player's: open one of your own";
            return vec![error("already_identified", message.to_owned())];
        }
        let is_new = before.is_none();
        let left = bearer.ends_at().as_millis().saturating_sub(wall.as_millis());
        self.ends_at = now.checked_add(Duration::from_millis(left));
        self.bearer = Some(bearer);
        let mut actions = vec![Action::Reply(self.welcome(wall))];
        if is_new {
            // As a player one may have a seat where one was a spectator before.
            actions.extend(self.subscriptions.iter().map(|(table, deliver)| Action::Follow {
                table: *table,
                cursor: None,
                deliver: *deliver,
            }));
        }
        actions
    }

    fn on_subscribe(
        &mut self,
        table: TableId,
        cursor: Option<TableSeq>,
        deliver: Deliver,
    ) -> Vec<Action> {
        let is_more = !self.subscriptions.contains_key(&table);
        if is_more && self.subscriptions.len() >= self.limits.subscriptions_max {
            let reason = "too_many";
            return vec![Action::Reply(ServerFrame::Unsubscribed { table, reason })];
        }
        self.subscriptions.insert(table, deliver);
        vec![Action::Follow { table, cursor, deliver }]
    }

    /// A table is not followed any more, by no wish of the client.
    pub(super) fn on_dropped(&mut self, table: TableId) {
        self.subscriptions.remove(&table);
    }

    fn on_command(
        &mut self,
        id: CommandId,
        table: Option<TableId>,
        ask: impl FnOnce(CommandId, Identity) -> Ask,
    ) -> Vec<Action> {
        let Some(by) = self.identity().cloned() else {
            let refusal = Refusal::new("not_identified", "say hello with a token first");
            return vec![rejected(id, table, refusal)];
        };
        if self.commands >= self.limits.commands_max {
            let refusal = Refusal::new("busy", "too many commands of yours are under way")
                .retry_after_ms(BUSY_RETRY_MS);
            return vec![rejected(id, table, refusal)];
        }
        self.commands += 1;
        let ask = ask(id, by);
        let Some(table) = table else {
            return vec![Action::Ask(ask)];
        };
        match self.lines.get_mut(&table) {
            // Commands of one connection reach a table in the order they were sent.
            Some(line) => {
                line.push_back(ask);
                vec![]
            }
            None => {
                self.lines.insert(table, VecDeque::new());
                vec![Action::Ask(ask)]
            }
        }
    }

    /// A command has its verdict: the next one to the same table may go.
    pub(super) fn on_answered(&mut self, table: Option<TableId>) -> Option<Action> {
        self.commands -= 1;
        let table = table?;
        let next = self.lines.get_mut(&table).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.lines.remove(&table);
        }
        next.map(Action::Ask)
    }

    /// When [`Session::on_time`] is to be called next.
    pub(super) fn wake_at(&self) -> Instant {
        let hello_by = self.opened_at + self.limits.hello_timeout;
        let hello_by = Some(hello_by).filter(|_| !self.has_spoken);
        let also = [hello_by, self.ends_at];
        also.into_iter().flatten().fold(self.ping_at, Instant::min)
    }

    /// Some time has passed.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<Action> {
        let is_mute =
            !self.has_spoken && now.duration_since(self.opened_at) >= self.limits.hello_timeout;
        let silence = now.duration_since(self.heard_at);
        if is_mute || silence >= self.limits.ping_interval * PINGS_UNANSWERED {
            return vec![Action::Close(CloseCode::PingTimeout)];
        }
        if self.ends_at.is_some_and(|ends_at| ends_at <= now) {
            return vec![Action::Close(CloseCode::TokenExpired)];
        }
        if now < self.ping_at {
            return vec![];
        }
        self.ping_at = now + self.limits.ping_interval;
        vec![Action::Ping]
    }
}

/// A token was not taken.
fn refused(error: TokenError) -> Action {
    metrics::token_refused(error.reason());
    debug!(reason = error.reason(), "a token was refused: {error}");
    match error {
        TokenError::Expired => Action::Close(CloseCode::TokenExpired),
        TokenError::KeysUnavailable { retry_after } => Action::Reply(ServerFrame::Error {
            code: "keys_unavailable",
            message: "whether your token is good cannot be known now: say hello again".to_owned(),
            retry_after_ms: Some(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1)),
        }),
        TokenError::NotYet
        | TokenError::Malformed
        | TokenError::NotOurs
        | TokenError::WrongIssuer
        | TokenError::WrongAudience
        | TokenError::NoPlayer
        | TokenError::BadName
        | TokenError::UnknownKey => Action::Close(CloseCode::BadToken),
    }
}

fn error(code: &'static str, message: String) -> Action {
    Action::Reply(ServerFrame::Error { code, message, retry_after_ms: None })
}

fn rejected(id: CommandId, table: Option<TableId>, refusal: Refusal) -> Action {
    Action::Reply(ServerFrame::Rejected { id, table, refusal })
}

/// What came too soon is answered in the terms of what was asked.
fn throttled(frame: ClientFrame, wait: Duration) -> Action {
    // At least 1: "come back at once" would be answered in the same way.
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    let message = "you send faster than this gateway takes";
    let refusal = Refusal::new("throttled", message).retry_after_ms(wait_ms);
    match frame {
        ClientFrame::Open { id, .. } => rejected(id, None, refusal),
        ClientFrame::Command { id, table, .. } => rejected(id, Some(table), refusal),
        ClientFrame::Hello { .. }
        | ClientFrame::Subscribe { .. }
        | ClientFrame::Unsubscribe { .. }
        | ClientFrame::WatchLobby
        | ClientFrame::UnwatchLobby
        | ClientFrame::Ping { .. } => Action::Reply(ServerFrame::Error {
            code: "throttled",
            message: message.to_owned(),
            retry_after_ms: Some(wait_ms),
        }),
    }
}

#[cfg(test)]
mod tests;
