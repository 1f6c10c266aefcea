//! What keeps one followed table true: catch up from the log, follow, mend gaps, and tell the owner who is here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::archived::Archived;
use super::breaker::Breaker;
use super::live_table::Loaded;
use super::load;
use super::metrics;
use super::missed::Looking;
use super::owners::{For, Owners};
use super::table_feed::{Fed, Feed};
use crate::bus::{Bus, Entry, ReadError};
use crate::catalog::{Catalog, FoldError};
use crate::domain::{TableId, WorkerId};
use crate::protocol::request::{self, PresenceNotice};
use crate::protocol::subject;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// How long the log may fail before followers are told so.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// First wait after a failed read; doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A table this young may not have reached every replica of the log.
const YOUNG_MS: u64 = 10_000;
/// How long nothing may come before the log is asked whether something was missed: the last
/// message of all, lost on its way, leaves no gap behind. Doubles while the table stays quiet.
const TAIL_CHECK_MIN: Duration = Duration::from_secs(5);
const TAIL_CHECK_MAX: Duration = Duration::from_secs(60);
/// A new owner is told twice who is here: where several servers carry the bus, it may be heard at another one a
/// little after its claim is seen.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);
/// After the bus was away, tables look for what they missed within this time, not all at once.
const SPREAD: Duration = Duration::from_secs(1);
/// How long a table of the archive is kept after its last follower has left.
const ARCHIVED_LINGER: Duration = Duration::from_secs(5);
/// How many tables look at the log, or are read from it, at the same time.
pub(super) const READS_AT_ONCE: usize = 64;

/// What every feed's task works with.
#[derive(Debug)]
pub(super) struct FeedContext {
    /// The log and the mail.
    pub bus: Bus,
    /// The games.
    pub catalog: Catalog,
    /// For ages, never for decisions.
    pub clock: Clock,
    /// For waits.
    pub entropy: Entropy,
    /// Who gets tables adopted whose owner is gone.
    pub owners: Arc<Owners>,
    /// Says when something may have been missed.
    pub breaker: Arc<Breaker>,
    /// Looks at the log that may be many at once.
    pub reads: Semaphore,
    /// Where tables go that are over, if this gateway may look there.
    pub archived: Option<Archived>,
    /// How many commits each table keeps for those who resume.
    pub ring_len: usize,
    /// How long a table is followed after its last follower has left.
    pub linger: Duration,
    /// This process, for presence notices.
    pub gateway: Arc<str>,
    /// When to stop.
    pub shutdown: CancellationToken,
}

/// Why a table is not followed, as the `unsubscribed` frame says it.
type Reason = &'static str;

/// Follows a table until nobody wants it any more. The feed is closed when this returns.
pub(super) async fn run(feed: Arc<Feed>, cx: Arc<FeedContext>) {
    // Dropped on a panic too: followers must never look at a table that stands still.
    let _closing = CloseOnDrop(Arc::clone(&feed));
    let mut followed = match open(&feed, &cx).await {
        Ok(Some(followed)) => followed,
        Ok(None) => return keep_archived(&feed, &cx).await,
        Err(reason) => return feed.close(reason),
    };
    let mut looking = Looking::default();
    let mut interruptions = cx.breaker.interruptions();
    let mut looks = Looks::new(Instant::now());
    loop {
        let idle_at = feed.idle_since().map(|since| since + cx.linger);
        let outcome = tokio::select! {
            // What is rare first, and entries last: a table at which something happens all the time must still
            // hear the bell. Commands wait for appends, so entries come with pauses between them.
            biased;
            () = cx.shutdown.cancelled() => {
                tell_owner(&feed, &cx).await;
                return;
            }
            () = feed.rung() => {
                looking.start_if_due(&feed, &cx);
                tell_owner(&feed, &cx).await;
                Ok(())
            }
            found = looking.found() => {
                feed.on_found(&found);
                Ok(())
            }
            Ok(()) = interruptions.changed() => {
                looks.after_interruption(Instant::now() + cx.entropy.between(Duration::ZERO, SPREAD));
                Ok(())
            }
            () = sleep_until(looks.at()) => {
                look(&feed, &cx, looks.next(Instant::now())).await;
                Ok(())
            }
            () = sleep_until(idle_at.unwrap_or(looks.at())), if idle_at.is_some() => {
                if feed.close_if_idle(cx.linger) {
                    return;
                }
                tell_owner(&feed, &cx).await;
                sleep(BACKOFF_MIN).await;
                Ok(())
            }
            entry = followed.next() => match entry {
                Some(entry) => {
                    let followed = on_followed(&feed, &cx, &entry).await;
                    looks.after_entry(Instant::now(), followed.as_ref().ok().copied());
                    followed.map(|_| ())
                }
                None => follow_again(&feed, &cx, &mut followed).await,
            },
        };
        if let Err(reason) = outcome {
            return feed.close(reason);
        }
    }
}

/// What is to be looked after at a table without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nothing has come for a while.
    Quiet,
    /// The bus was away.
    Interrupted,
    /// The owner is new.
    NewOwner,
}

/// Whether an entry that was followed names a new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    New,
    Same,
}

/// When to look next, and why. Reads no clock.
#[derive(Debug)]
struct Looks {
    quiet_for: Duration,
    quiet_at: Instant,
    interrupted_at: Option<Instant>,
    new_owner_at: Option<Instant>,
}

impl Looks {
    fn new(now: Instant) -> Self {
        let quiet_for = TAIL_CHECK_MIN;
        Self { quiet_for, quiet_at: now + quiet_for, interrupted_at: None, new_owner_at: None }
    }

    fn at(&self) -> Instant {
        let others = self.interrupted_at.into_iter().chain(self.new_owner_at);
        others.fold(self.quiet_at, Instant::min)
    }

    fn next(&mut self, now: Instant) -> Look {
        if self.interrupted_at.take_if(|at| *at <= now).is_some() {
            return Look::Interrupted;
        }
        if self.new_owner_at.take_if(|at| *at <= now).is_some() {
            return Look::NewOwner;
        }
        self.quiet_for = (self.quiet_for * 2).min(TAIL_CHECK_MAX);
        self.quiet_at = now + self.quiet_for;
        Look::Quiet
    }

    fn after_interruption(&mut self, at: Instant) {
        self.interrupted_at = Some(at);
    }

    fn after_entry(&mut self, now: Instant, owner: Option<Owner>) {
        self.quiet_for = TAIL_CHECK_MIN;
        self.quiet_at = now + self.quiet_for;
        if owner == Some(Owner::New) {
            self.new_owner_at = Some(now + ANNOUNCE_AGAIN);
        }
    }
}

/// The owner may have missed who is here, and this gateway what happened.
async fn look(feed: &Feed, cx: &FeedContext, look: Look) {
    feed.announce_again();
    tell_owner(feed, cx).await;
    if look != Look::NewOwner {
        check_tail(feed, cx, look).await;
    }
}

struct CloseOnDrop(Arc<Feed>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close("unavailable");
    }
}

/// What the archive has does not change: it stays in memory while somebody looks at it, and a little longer.
async fn keep_archived(feed: &Feed, cx: &FeedContext) {
    let linger = cx.linger.min(ARCHIVED_LINGER);
    loop {
        let idle_at = feed.idle_since().map(|since| since + linger);
        tokio::select! {
            () = cx.shutdown.cancelled() => return,
            () = feed.rung() => {}
            () = sleep_until(idle_at.unwrap_or_else(Instant::now)), if idle_at.is_some() => {
                if feed.close_if_idle(linger) {
                    return;
                }
            }
        }
    }
}

/// Follow first, read then: what is stored between the two arrives twice and is dropped once.
///
/// Of a table that is in the archive there is nothing to follow.
async fn open(feed: &Feed, cx: &FeedContext) -> Result<Option<BoxStream<'static, Entry>>, Reason> {
    let table = feed.table;
    let followed = patiently(table, || cx.bus.log.follow(table)).await?;
    let is_young = cx.clock.now().millis_since(table.opened_at()) < YOUNG_MS;
    let mut backoff = Backoff::new();
    for _ in 0..5 {
        let (loaded, poison) = patiently(table, || load::load(cx, table, cx.ring_len)).await?;
        for (entry, error) in &poison {
            set_aside(cx, entry, error).await;
        }
        match loaded {
            Loaded::Live(live) => {
                match live.owner() {
                    Some(owner) if live.needs_owner() => cx.owners.expect(owner),
                    Some(_) | None => {}
                }
                feed.open(live);
                return Ok(Some(followed));
            }
            Loaded::Archived(tombstone) => {
                let archived = load::archived(cx, &tombstone).await;
                let live = archived.map_err(|_logged| "unavailable")?.ok_or("archived")?;
                feed.open(live);
                return Ok(None);
            }
            Loaded::UnknownKind => return Err("unknown_kind"),
            Loaded::Unreadable => return Err("unavailable"),
            Loaded::Unknown if is_young => backoff.wait().await,
            Loaded::Unknown => break,
        }
    }
    Err("unknown_table")
}

async fn on_followed(feed: &Feed, cx: &FeedContext, entry: &Entry) -> Result<Owner, Reason> {
    match feed.on_followed(entry) {
        Fed::Done => {
            metrics::lag(cx.clock.now().millis_since(entry.stored_at));
            Ok(Owner::Same)
        }
        Fed::Claimed(worker) => {
            metrics::lag(cx.clock.now().millis_since(entry.stored_at));
            on_claimed(feed, cx, &worker);
            Ok(Owner::New)
        }
        Fed::Poison(error) => {
            set_aside(cx, entry, &error).await;
            Ok(Owner::Same)
        }
        Fed::Gap => {
            metrics::gap_repaired();
            let table = feed.table;
            debug!(table.id = %table, stream.seq = entry.seq.get(), "a gap before this entry is read from the log");
            let give_up = Instant::now() + READ_PATIENCE;
            let mut backoff = Backoff::new();
            // A replica that lags may not have what was missed yet.
            while feed.last() < entry.seq {
                if Instant::now() > give_up {
                    return Err("unavailable");
                }
                if let Err(error) = catch_up(feed, cx).await {
                    warn!(table.id = %table, %error, "cannot read what was missed of table {table}");
                }
                if feed.last() < entry.seq {
                    backoff.wait().await;
                }
            }
            // Whoever it is, to be told twice who is here does no harm.
            Ok(Owner::New)
        }
    }
}

/// Whoever was going to ask for the table's adoption need not.
fn on_claimed(feed: &Feed, cx: &FeedContext, worker: &WorkerId) {
    debug!(table.id = %feed.table, worker.id = %worker, "table {} is worker {worker}'s now", feed.table);
    cx.owners.settled(feed.table);
    cx.owners.expect(worker);
}

/// The subscription ended: the connection to the bus was given up, or the bus drops slow readers.
async fn follow_again(
    feed: &Feed,
    cx: &FeedContext,
    followed: &mut BoxStream<'static, Entry>,
) -> Result<(), Reason> {
    let table = feed.table;
    // One that ends at once must not become a busy loop.
    sleep(BACKOFF_MIN).await;
    *followed = patiently(table, || cx.bus.log.follow(table)).await?;
    let entries = patiently(table, || cx.bus.log.read(table, feed.last().next())).await?;
    take_read(feed, cx, &entries).await;
    Ok(())
}

/// Not urgent: a log that cannot be read now is asked again at the next look.
async fn check_tail(feed: &Feed, cx: &FeedContext, look: Look) {
    let Some(kind) = feed.kind_if_running() else {
        return;
    };
    // Closed never: a permit that cannot be had changes nothing but the order.
    let _permit = cx.reads.acquire().await;
    let before = feed.last();
    match catch_up(feed, cx).await {
        Ok(()) if feed.last() > before => metrics::gap_repaired(),
        // Its owner may wait for a player, or be gone: unheard, or fenced by a foreign message.
        Ok(()) if look == Look::Quiet && feed.needs_owner() => {
            cx.owners.look_after(feed.table, kind, For::Followers);
        }
        Ok(()) => {}
        Err(error) => {
            debug!(table.id = %feed.table, %error, "the tail of the table was not checked");
        }
    }
}

async fn catch_up(feed: &Feed, cx: &FeedContext) -> Result<(), ReadError> {
    let entries = cx.bus.log.read(feed.table, feed.last().next()).await?;
    take_read(feed, cx, &entries).await;
    Ok(())
}

async fn take_read(feed: &Feed, cx: &FeedContext, entries: &[Entry]) {
    for entry in entries {
        match feed.on_read(entry) {
            Fed::Poison(error) => set_aside(cx, entry, &error).await,
            Fed::Claimed(worker) => on_claimed(feed, cx, &worker),
            Fed::Done | Fed::Gap => {}
        }
    }
}

async fn set_aside(cx: &FeedContext, entry: &Entry, error: &FoldError) {
    metrics::poison();
    let (table, seq) = (entry.address.table, entry.seq.get());
    error!(table.id = %table, stream.seq = seq, %error, "message {seq} is no commit of table {table}: skipped");
    let reason = error.to_string();
    let kept = cx.bus.log.set_aside(entry.address.shard, entry, &reason);
    if let Err(error) = kept.await {
        warn!(table.id = %table, stream.seq = seq, %error, "no copy of message {seq} could be kept");
    }
}

/// Tells the owner who came and went. What cannot be told now is told at the next occasion.
async fn tell_owner(feed: &Feed, cx: &FeedContext) {
    for (player, change) in feed.take_notices() {
        let notice = PresenceNotice {
            table: feed.table,
            player: player.clone(),
            gateway: cx.gateway.as_ref().to_owned(),
            change,
        };
        let subject = subject::seat(feed.table);
        let told = cx.bus.mail.notify(subject, request::encode(&notice)).await;
        if let Err(error) = told {
            debug!(table.id = %feed.table, %error, "the owner was not told of a presence");
            feed.put_notice_back(player, change);
        }
    }
}

/// Tries until it works or followers have waited long enough.
async fn patiently<T, F>(table: TableId, mut attempt: impl FnMut() -> F) -> Result<T, Reason>
where
    F: Future<Output = Result<T, ReadError>>,
{
    let give_up = Instant::now() + READ_PATIENCE;
    let mut backoff = Backoff::new();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= give_up => {
                warn!(table.id = %table, %error, "table {table} cannot be followed");
                return Err("unavailable");
            }
            Err(_) => backoff.wait().await,
        }
    }
}

struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(BACKOFF_MIN)
    }

    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}
