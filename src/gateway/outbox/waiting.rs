//! What waits of one table. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::turns::Class;
use super::{FeedId, Frame, OutboxLimits, Pushed, TableFrame, push_first_exactly};
use crate::gateway::throttle::{Bucket, BucketTime};

#[derive(Debug)]
pub(super) struct Waiting {
    bucket: Bucket,
    /// Taken from the table's bucket and not used yet.
    holds_token: bool,
    /// A `subscribed` frame, which goes before everything else of its table and is never conflated.
    head: Option<Frame>,
    body: Body,
    /// What is sent last of all, after which the table is not followed any more.
    end: Option<Box<(Frame, FeedId)>>,
    pub(super) class: Class,
    pub(super) has_turn: bool,
}

#[derive(Debug)]
enum Body {
    /// In order, each with the time since when it waits.
    Frames {
        frames: VecDeque<(Instant, TableFrame)>,
        bytes: usize,
    },
    SnapshotDue,
}

impl Body {
    const EMPTY: Self = Self::Frames { frames: VecDeque::new(), bytes: 0 };
}

/// What is to go out first of a table.
pub(super) enum First {
    Frame(Frame, Option<Frame>),
    End(Box<(Frame, FeedId)>),
    SnapshotDue,
    Nothing,
}

impl Waiting {
    pub(super) fn new(class: Class, limits: &OutboxLimits, time: &BucketTime) -> Self {
        Self {
            bucket: Bucket::full(limits.table_rate, time),
            holds_token: false,
            head: None,
            body: Body::EMPTY,
            end: None,
            class,
            has_turn: false,
        }
    }

    /// Forgets what waits, and begins with this.
    pub(super) fn start_anew(&mut self, subscribed: Frame) {
        self.head = Some(subscribed);
        self.body = Body::EMPTY;
        self.end = None;
    }

    /// Sends this last of all.
    pub(super) fn end_with(&mut self, unsubscribed: Frame, feed: FeedId) {
        self.end = Some(Box::new((unsubscribed, feed)));
    }

    pub(super) fn is_empty(&self) -> bool {
        let no_body = matches!(&self.body, Body::Frames { frames, .. } if frames.is_empty());
        self.head.is_none() && no_body && self.end.is_none()
    }

    /// Frames and bytes; a snapshot that is due counts as a frame of none.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let head = self.head.as_ref().map_or((0, 0), |head| (1, head.len()));
        match &self.body {
            Body::Frames { frames, bytes } => (head.0 + frames.len(), head.1 + bytes),
            Body::SnapshotDue => (head.0 + 1, head.1),
        }
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.body = Body::EMPTY;
        }
    }

    pub(super) fn push(
        &mut self,
        frame: TableFrame,
        frames_max: usize,
        limits: &OutboxLimits,
        now: Instant,
    ) -> Pushed {
        let Body::Frames { frames, bytes } = &mut self.body else {
            return Pushed::Conflated { frames: 1 };
        };
        debug_assert!(
            frames.back().is_none_or(|(_, last)| last.seq < frame.seq),
            "commits of one table come in order"
        );
        let more = frame.bytes();
        let too_many = frames.len() >= frames_max;
        let too_big = !frames.is_empty() && *bytes + more > limits.bytes_per_table;
        let too_old =
            frames.front().is_some_and(|(since, _)| now.duration_since(*since) > limits.age);
        if too_many || too_big || too_old {
            let frames = frames.len() + 1;
            self.body = Body::SnapshotDue;
            return Pushed::Conflated { frames };
        }
        push_first_exactly(frames, (now, frame));
        *bytes += more;
        Pushed::Queued
    }

    /// The snapshot that was due.
    pub(super) fn resolve(&mut self, snapshot: TableFrame, now: Instant) {
        if matches!(self.body, Body::SnapshotDue) {
            self.body =
                Body::Frames { bytes: snapshot.bytes(), frames: VecDeque::from([(now, snapshot)]) };
        }
    }

    pub(super) fn try_take_token(&mut self, now: Instant) -> Result<(), Duration> {
        if !self.holds_token {
            self.bucket.try_take(now)?;
            self.holds_token = true;
        }
        Ok(())
    }

    /// A frame that comes out uses the table's token.
    pub(super) fn take_first(&mut self) -> First {
        if let Some(head) = self.head.take() {
            self.holds_token = false;
            return First::Frame(head, None);
        }
        let Body::Frames { frames, bytes } = &mut self.body else {
            return First::SnapshotDue;
        };
        let Some((_, first)) = frames.pop_front() else {
            return self.end.take().map_or(First::Nothing, First::End);
        };
        *bytes -= first.bytes();
        self.holds_token = false;
        First::Frame(first.frame, first.then)
    }
}
