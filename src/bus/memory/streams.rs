//! The streams in memory: what is stored, who follows it, what expires. Pure but for the clock.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::{AppendError, Entry, ReadError, Stored};
use super::{Faults, SUBSCRIPTION_CAPACITY};
use crate::domain::{Kind, StreamSeq, TableId, Timestamp, WorkerId};
use crate::protocol::subject::{self, Address};
use crate::runtime::clock::Clock;

/// The largest payload that is stored, as in `nats/streams/events.json`.
const PAYLOAD_MAX: usize = 256 * 1024;

/// All streams.
#[derive(Debug)]
pub(super) struct Streams {
    clock: Clock,
    pub(super) created_at: Timestamp,
    shards: Vec<Shard>,
    /// Copies of what cannot be read, by stream and position, with the reason.
    dead: BTreeMap<(u16, StreamSeq), (Entry, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    last: StreamSeq,
    subjects: HashMap<(On, TableId), Vec<Message>>,
    /// All markers, in order.
    markers: BTreeMap<StreamSeq, Entry>,
    followers: HashMap<TableId, Vec<Follower>>,
}

/// The two subjects of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum On {
    Evt,
    Done,
}

#[derive(Clone, Debug)]
struct Message {
    entry: Entry,
    expires_at: Option<Instant>,
}

#[derive(Debug)]
struct Follower {
    copies: mpsc::Sender<(Instant, Entry)>,
    faults: Faults,
}

/// One message to be stored.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) address: Address,
    pub(super) on: On,
    pub(super) what: Stored,
    pub(super) id: String,
    pub(super) worker: Option<WorkerId>,
    pub(super) after: Option<StreamSeq>,
    /// Replaces all on its subject, and expires after this.
    pub(super) roll_up: Option<Duration>,
    pub(super) payload: Bytes,
}

impl Streams {
    pub(super) fn new(shards: NonZeroU16, clock: Clock) -> Self {
        Self {
            clock,
            created_at: clock.now(),
            shards: (0..shards.get()).map(|_| Shard::default()).collect(),
            dead: BTreeMap::new(),
        }
    }

    /// Keeps a copy, once.
    pub(super) fn set_aside(&mut self, shard: u16, entry: &Entry, reason: &str) {
        let copy = self.dead.entry((shard, entry.seq));
        copy.or_insert_with(|| (entry.clone(), reason.to_owned()));
    }

    pub(super) fn dead_letters(&self) -> Vec<(Entry, String)> {
        self.dead.values().cloned().collect()
    }

    pub(super) fn shard(&mut self, shard: u16) -> Result<&mut Shard, ReadError> {
        let found = self.shards.get_mut(usize::from(shard));
        found.ok_or_else(|| ReadError::NoStream { stream: subject::events_stream(shard) })
    }

    /// Where this very message is stored, if it is.
    pub(super) fn find(&mut self, publication: &Publication) -> Option<StreamSeq> {
        let shard = self.shard(publication.address.shard).ok()?;
        let mut messages = shard.on(publication.on, publication.address.table).iter();
        let own = messages.find(|message| message.entry.id.as_ref() == Some(&publication.id))?;
        Some(own.entry.seq)
    }

    pub(super) fn store(&mut self, publication: &Publication) -> Result<StreamSeq, AppendError> {
        let table = publication.address.table;
        let refused = |reason: &str| AppendError::Refused { table, reason: reason.to_owned() };
        if publication.payload.len() > PAYLOAD_MAX {
            return Err(refused("message size exceeds maximum allowed"));
        }
        let stored_at = self.clock.now();
        self.shard(publication.address.shard)
            .map_err(|error| refused(&error.to_string()))?
            .store(publication, stored_at)
    }
}

impl Shard {
    /// A table's entries at or after a position.
    pub(super) fn entries(&mut self, table: TableId, from: StreamSeq) -> Vec<Entry> {
        let mut previous = StreamSeq::ZERO;
        let messages = self.on(On::Evt, table).iter();
        messages
            .filter(|message| message.entry.seq >= from)
            .map(|message| {
                let mut entry = message.entry.clone();
                entry.previous = std::mem::replace(&mut previous, entry.seq);
                entry
            })
            .collect()
    }

    /// The first marker at or after a position.
    pub(super) fn marker(&self, from: StreamSeq) -> Option<Entry> {
        let mut markers = self.markers.range(from..);
        markers.next().map(|(_, entry)| entry.clone())
    }

    /// The first commit of a kind at or after a position.
    pub(super) fn commit_of(&self, kind: &Kind, from: StreamSeq) -> Option<Entry> {
        let messages = self.subjects.iter().filter(|((on, _), _)| *on == On::Evt);
        let entries = messages.flat_map(|(_, messages)| messages).map(|message| &message.entry);
        let wanted = |entry: &&Entry| {
            entry.address.kind == *kind && entry.what == Stored::Commit && entry.seq >= from
        };
        entries.filter(wanted).min_by_key(|entry| entry.seq).cloned()
    }

    /// Copies of a table's entries, each with the time it arrives at.
    pub(super) fn follow(
        &mut self,
        table: TableId,
        faults: Faults,
    ) -> mpsc::Receiver<(Instant, Entry)> {
        let (copies, received) = mpsc::channel(SUBSCRIPTION_CAPACITY);
        let followers = self.followers.entry(table).or_default();
        followers.push(Follower { copies, faults });
        received
    }

    /// What stands on a subject at this moment.
    fn on(&mut self, on: On, table: TableId) -> &mut Vec<Message> {
        let messages = self.subjects.entry((on, table)).or_default();
        let now = Instant::now();
        messages.retain(|message| message.expires_at.is_none_or(|at| at > now));
        messages
    }

    fn store(
        &mut self,
        publication: &Publication,
        stored_at: Timestamp,
    ) -> Result<StreamSeq, AppendError> {
        let table = publication.address.table;
        let seq = self.last.next();
        let messages = self.on(publication.on, table);
        let last = messages.last().map_or(StreamSeq::ZERO, |last| last.entry.seq);
        if let Some(after) = publication.after
            && after != last
        {
            // Our own message may be what is in the way.
            let next = messages.iter().find(|message| message.entry.seq > after);
            return match next {
                Some(next) if next.entry.id.as_ref() == Some(&publication.id) => Ok(next.entry.seq),
                _ => Err(AppendError::Fenced { table }),
            };
        }
        let entry = Entry {
            address: publication.address.clone(),
            seq,
            previous: last,
            id: Some(publication.id.clone()),
            worker: publication.worker.clone(),
            what: publication.what,
            stored_at,
            payload: publication.payload.clone(),
        };
        let replaced: Vec<StreamSeq> = match publication.roll_up {
            Some(_) => messages.drain(..).map(|message| message.entry.seq).collect(),
            None => Vec::new(),
        };
        messages.push(Message {
            entry: entry.clone(),
            expires_at: publication.roll_up.map(|ttl| Instant::now() + ttl),
        });
        self.last = seq;
        match publication.on {
            On::Evt => self.copy_to_followers(&entry),
            On::Done => {
                for seq in replaced {
                    self.markers.remove(&seq);
                }
                if publication.what == Stored::Marker {
                    self.markers.insert(seq, entry);
                }
            }
        }
        Ok(seq)
    }

    fn copy_to_followers(&mut self, entry: &Entry) {
        let Some(followers) = self.followers.get_mut(&entry.address.table) else {
            return;
        };
        followers.retain(|follower| !follower.copies.is_closed());
        for follower in followers {
            if let Some(arrival) = follower.faults.live_arrival() {
                // A full one misses it, and sees the gap.
                follower.copies.try_send((arrival, entry.clone())).ok();
            }
        }
    }
}
