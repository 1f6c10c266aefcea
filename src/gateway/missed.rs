//! Reading back, for those who resume at a table, what is kept of it no more: one look at the log at a time, for
//! everyone who waits, beside what happens at the table meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use tokio::time::timeout;

use super::feed_task::FeedContext;
use super::load;
use super::table_feed::Feed;
use crate::bus::Entry;

/// A log that takes longer is no short cut: who waits gets a snapshot.
const PATIENCE: Duration = Duration::from_secs(3);

/// A look at the log that is under way, if one is.
#[derive(Default)]
pub(super) struct Looking(Option<BoxFuture<'static, Vec<Entry>>>);

impl Looking {
    /// Begins to look, if somebody waits for it and nobody looks yet.
    pub(super) fn start_if_due(&mut self, feed: &Feed, cx: &Arc<FeedContext>) {
        if self.0.is_some() {
            return;
        }
        self.0 = feed.missed().map(|missed| {
            let (cx, table) = (Arc::clone(cx), feed.table);
            let entries = async move { load::missed(&cx, table, missed).await };
            timeout(PATIENCE, entries).map(Result::unwrap_or_default).boxed()
        });
    }

    /// What was found, once it is: nothing if not all of it was.
    pub(super) async fn found(&mut self) -> Vec<Entry> {
        let Some(looking) = &mut self.0 else {
            return pending().await;
        };
        let found = looking.await;
        self.0 = None;
        found
    }
}
