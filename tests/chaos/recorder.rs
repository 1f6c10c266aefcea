//! Writes down every message of the event streams while they last: archived games leave the stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::HeaderMap;
use async_nats::datetime::parse_rfc3339;
use async_nats::jetstream;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use tablecast::protocol::envelope::{TYPE_ARCHIVED, header};
use tablecast::protocol::subject::Address;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::checker::log::{Stored, What};

/// How often it is asked for more, how much at once, and how long one answer may take. All well below the age
/// at which games are archived: what has been archived and buried meanwhile is never seen.
const POLL: Duration = Duration::from_millis(100);
const PAGE: usize = 1_000;
const ANSWER: Duration = Duration::from_secs(1);

/// How long a stream that is whole may say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// All messages so far, in the order of the stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<Stored>>>);

impl Tape {
    /// Looks at what there is.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&[Stored]) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a message to its place, once: several recorders bring the same.
    fn put(&self, stored: Stored) {
        let mut tape = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tape.binary_search_by_key(&stored.stream_seq, |other| other.stream_seq);
        if let Err(place) = place {
            tape.insert(place, stored);
        }
    }
}

/// Records until told to stop, by one server: whoever has a replica answers, leader or not.
///
/// A consumer would stand still while the server that keeps it hangs. Each recorder reads everything, whatever
/// the others have: in a run of a thousand kills, answers left out four messages that the archive had.
pub(crate) async fn record(client: async_nats::Client, tape: Tape, stop: CancellationToken) {
    let mut last = 0;
    while !stop.is_cancelled() {
        tokio::select! {
            // What was lost on the way is asked for again.
            _ended = next_page(&client, &tape, &mut last) => {}
            () = stop.cancelled() => {}
        }
        sleep(POLL).await;
    }
}

/// Asks for the messages after the last one that this recorder had.
async fn next_page(
    client: &async_nats::Client,
    tape: &Tape,
    recorded: &mut u64,
) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut answer = client.subscribe(inbox.clone()).await?;
    let request = json!({ "seq": *recorded + 1, "batch": PAGE, "next_by_subj": ">" });
    let subject = "$JS.API.DIRECT.GET.EVENTS_0";
    client.publish_with_reply(subject, inbox, request.to_string().into()).await?;
    let mut last = 0;
    loop {
        let message = timeout(ANSWER, answer.next()).await?.context("the connection is closed")?;
        let headers = message.headers.unwrap_or_default();
        let text = |name: &str| headers.get_last(name).map(|value| value.as_str().to_owned());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let (Some(seq), None) = (number("Nats-Sequence"), message.status) else { return Ok(()) };
        ensure!(number("Nats-Last-Sequence") == Some(last), "a part of the answer was lost");
        last = seq;
        let subject = text("Nats-Subject").context("a stored message has a subject")?;
        let time = text("Nats-Time-Stamp").context("a stored message has a time")?;
        let time = parse_rfc3339(&time).map_err(|error| anyhow::anyhow!("{error}"))?;
        let nanos = time.unix_timestamp_nanos();
        if let Some(stored) = stored(&subject, &headers, (seq, nanos), &message.payload) {
            tape.put(stored);
        }
        *recorded = last;
    }
}

/// Everything that the stream still holds, read once more from its beginning.
pub(crate) async fn read_all(client: &async_nats::Client) -> anyhow::Result<Tape> {
    let tape = Tape::default();
    follow(client, &tape).await?;
    Ok(tape)
}

async fn follow(client: &async_nats::Client, tape: &Tape) -> anyhow::Result<()> {
    let context = jetstream::new(client.clone());
    let stream = timeout(SILENCE, context.get_stream("EVENTS_0")).await??;
    if stream.cached_info().state.messages == 0 {
        return Ok(());
    }
    let consumer = timeout(SILENCE, stream.create_consumer(OrderedConfig::default())).await??;
    let mut messages = timeout(SILENCE, consumer.messages()).await??;
    loop {
        let message = timeout(SILENCE, messages.next()).await?.context("the reading ended")??;
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        let position = (info.stream_sequence, info.published.unix_timestamp_nanos());
        let headers = message.headers.clone().unwrap_or_default();
        if let Some(stored) = stored(&message.subject, &headers, position, &message.payload) {
            tape.put(stored);
        }
        if info.pending == 0 {
            return Ok(());
        }
    }
}

/// Nothing for what is not of any table.
fn stored(
    subject: &str,
    headers: &HeaderMap,
    (stream_seq, nanos): (u64, i128),
    payload: &Bytes,
) -> Option<Stored> {
    let address = Address::parse(subject)?;
    let text = |name: &str| Some(headers.get_last(name)?.as_str().to_owned());
    let is_archived = text(header::TYPE).as_deref() == Some(TYPE_ARCHIVED);
    let what = match (subject.starts_with("tc.done."), is_archived) {
        (false, false) => What::Commit,
        (false, true) => What::Tombstone,
        (true, false) => What::Marker,
        (true, true) => What::MarkerGone,
    };
    Some(Stored {
        stream_seq,
        subject: subject.to_owned(),
        table: address.table,
        kind: address.kind,
        what,
        types: text(header::TYPE).unwrap_or_default(),
        worker: text(header::WORKER),
        stored_ms: u64::try_from(nanos / 1_000_000).unwrap_or_default(),
        payload: payload.clone(),
    })
}
