//! Looks at all connections: counts those that are behind, logs those that stay so, answers operators.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::lobby::Board;
use super::mailbox::Mailbox;
use super::metrics;
use super::outbox::{Behind, Hold, Load};
use super::players::Players;
use super::registry::Registry;
use super::served::Served;
use crate::bus::{Bus, MailError};
use crate::protocol::ops::{
    ConnectionLine, ConnectionsReport, ConnectionsRequest, is_answer_token,
};
use crate::protocol::request::{decode, encode};
use crate::protocol::subject;

/// How often all connections are looked at, which takes a fraction of a microsecond for each.
const SURVEY_INTERVAL: Duration = Duration::from_secs(2);
/// A connection that has been behind for longer is worth a line in the log.
const REPORTED_AFTER: Duration = Duration::from_secs(10);
/// Such lines of one look: the others are counted in one more.
const LINES_MAX: usize = 10;
/// Connections that are looked at before others have their turn.
const AT_ONCE: usize = 256;
/// The most that an operator is told of.
const LIMIT_MAX: usize = 1_000;
const LISTEN_AGAIN: Duration = Duration::from_millis(500);

/// Who looks after the connections of this gateway.
#[derive(Debug)]
pub(super) struct Overseer {
    /// This process.
    gateway: Arc<str>,
    /// The connections.
    registry: Arc<Registry>,
    /// Their players.
    players: Arc<Players>,
    /// The list of tables.
    board: Arc<Board>,
}

impl Overseer {
    /// Of what this gateway serves.
    pub(super) fn new(served: &Served) -> Self {
        Self {
            gateway: Arc::clone(&served.gateway),
            registry: Arc::clone(&served.registry),
            players: Arc::clone(&served.dispatcher.players),
            board: Arc::clone(&served.board),
        }
    }

    /// Until told to stop.
    pub(super) async fn run(self, bus: Bus, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.look() => {}
            () = self.answer(&bus) => {}
        }
    }

    async fn look(&self) {
        let mut tick = interval(SURVEY_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.players.tidy(now, |table| self.board.lists(table));
            self.survey(now).await;
        }
    }

    async fn survey(&self, now: Instant) {
        let mut behind = [0; Hold::ALL.len()];
        let (mut lines, mut unsaid) = (0, 0);
        for some in self.registry.mailboxes().chunks(AT_ONCE) {
            for mailbox in some {
                let (hold, news) = look_at(mailbox, now);
                if let Some(hold) = hold {
                    behind[hold as usize] += 1;
                }
                match news {
                    Some(news) if lines < LINES_MAX => {
                        lines += 1;
                        say(&news, mailbox);
                    }
                    Some(_) => unsaid += 1,
                    None => {}
                }
            }
            yield_now().await;
        }
        for hold in Hold::ALL {
            metrics::behind(hold, behind[hold as usize]);
        }
        if unsaid > 0 {
            warn!(connections = unsaid, "{unsaid} more connections fell behind or caught up");
        }
    }

    async fn answer(&self, bus: &Bus) {
        loop {
            let mut asked = match bus.mail.listen(subject::OPS_CONNECTIONS.to_owned()).await {
                Ok(asked) => asked,
                Err(MailError { reason }) => {
                    debug!(reason, "operators cannot be heard");
                    sleep(LISTEN_AGAIN).await;
                    continue;
                }
            };
            while let Some(payload) = asked.next().await {
                let request = match decode::<ConnectionsRequest>(&payload) {
                    Ok(request) if is_answer_token(&request.answer_to) => request,
                    Ok(_) | Err(_) => {
                        debug!("an operator's question cannot be read");
                        continue;
                    }
                };
                let report = self.report(&request, Instant::now()).await;
                let answer_to = subject::ops_answer(&request.answer_to);
                if let Err(error) = bus.mail.notify(answer_to, encode(&report)).await {
                    debug!(%error, "an operator could not be answered");
                }
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    async fn report(&self, request: &ConnectionsRequest, now: Instant) -> ConnectionsReport {
        let mut report = ConnectionsReport {
            gateway: self.gateway.as_ref().to_owned(),
            connections: 0,
            behind: 0,
            frames: 0,
            bytes: 0,
            conflated: 0,
            throttled_in: 0,
            throttled_out: 0,
            worst: Vec::new(),
        };
        for some in self.registry.mailboxes().chunks(AT_ONCE) {
            for mailbox in some {
                let line = line_of(mailbox, now);
                report.connections += 1;
                report.behind += u64::from(line.behind_ms.is_some());
                report.frames += line.frames;
                report.bytes += line.bytes;
                report.conflated += u64::from(line.conflated);
                report.throttled_in += u64::from(line.throttled_in);
                report.throttled_out += u64::from(line.throttled_out);
                let is_asked_for = match &request.player {
                    Some(player) => line.player.as_ref() == Some(player),
                    None => line.is_noteworthy(),
                };
                if is_asked_for {
                    report.worst.push(line);
                }
            }
            yield_now().await;
        }
        report.worst.sort_by_cached_key(|line| std::cmp::Reverse(line.badness()));
        report.worst.truncate(usize::try_from(request.limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX));
        report
    }
}

/// What there is to say of a connection that is or was behind for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Behind { hold: Hold, for_ms: u64, load: Load, conflated: u32 },
    CaughtUp { conflated: u32 },
}

fn look_at(mailbox: &Mailbox, now: Instant) -> (Option<Hold>, Option<News>) {
    let mut outbox = mailbox.lock();
    let standing = outbox.standing();
    let behind = standing.behind;
    let conflated = standing.conflated;
    let news = match behind {
        Some(Behind { since, hold })
            if !standing.is_reported && now.saturating_duration_since(since) >= REPORTED_AFTER =>
        {
            standing.is_reported = true;
            let for_ms = millis_since(since, now);
            Some(News::Behind { hold, for_ms, load: outbox.load(), conflated })
        }
        None if standing.is_reported => {
            standing.is_reported = false;
            Some(News::CaughtUp { conflated })
        }
        Some(_) | None => None,
    };
    (behind.map(|behind| behind.hold), news)
}

fn say(news: &News, mailbox: &Mailbox) {
    let connection = mailbox.connection.0;
    let player = mailbox.player().map(tracing::field::display);
    let address = mailbox.address.map(tracing::field::display);
    match *news {
        News::Behind { hold, for_ms, load: Load { frames, bytes, .. }, conflated } => {
            let why = hold.label();
            warn!(
                connection,
                player,
                address,
                why,
                for_ms,
                frames,
                bytes,
                conflated,
                "connection {connection} has been behind for {for_ms} ms"
            );
        }
        News::CaughtUp { conflated } => {
            info!(connection, player, address, conflated, "connection {connection} has caught up");
        }
    }
}

fn line_of(mailbox: &Mailbox, now: Instant) -> ConnectionLine {
    let mut outbox = mailbox.lock();
    let load = outbox.load();
    let standing = outbox.standing();
    let handed = standing.blocked.map_or((0, 0), |blocked| (blocked.frames, blocked.bytes));
    ConnectionLine {
        connection: mailbox.connection.0,
        player: mailbox.player().map(ToString::to_string),
        address: mailbox.address.map(|address| address.to_string()),
        tables: load.tables as u64,
        frames: load.frames as u64 + u64::from(handed.0),
        bytes: load.bytes as u64 + u64::from(handed.1),
        conflated: standing.conflated,
        throttled_in: standing.throttled_in,
        throttled_out: standing.throttled_out,
        behind_ms: standing.behind.map(|behind| millis_since(behind.since, now)),
        blocked_ms: standing.blocked.map(|blocked| millis_since(blocked.since, now)),
        why: standing.behind.map(|behind| behind.hold.label().to_owned()),
    }
}

fn millis_since(since: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
