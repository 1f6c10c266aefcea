//! Reading a subject, all of it or its newest message, by direct gets, which any replica answers.

use std::future::Future;
use std::time::Duration;

use async_nats::header::{NATS_LAST_SEQUENCE, NATS_SEQUENCE, NATS_SUBJECT};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::{Client, HeaderMap, HeaderName, Message, StatusCode};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;
use tracing::debug;

use super::super::ReadError;
use super::super::connect::REQUEST_TIMEOUT;
use crate::domain::StreamSeq;
use crate::protocol::subject::{self, Address};

/// Messages per request: well below what a subscription holds, so that none is dropped.
const PAGE: u64 = 1000;

/// Messages in the first answer of a subject that is known by a pattern only: a tail fits into it, and a long
/// table is read on by its subject. The server finds the next message of a pattern half as fast.
const FIRST_PAGE: u64 = 32;

/// How often one page is asked for before the log counts as unreadable.
const TRIES: u32 = 6;

/// Doubles with each try.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Marks the end of an answer, as [`StatusCode`] has no name for it.
const END_OF_BATCH: u16 = 204;

/// How many messages come after one of an answer.
const NUM_PENDING: HeaderName = HeaderName::from_static("Nats-Num-Pending");

/// One page of an answer.
struct Page {
    messages: Vec<Message>,
    /// Position of the last message.
    last: u64,
    /// How many more there are.
    pending: u64,
}

/// Why there is no page.
enum PageError {
    /// Worth another try.
    Passing(String),
    /// The server's definite no.
    Refused(String),
}

/// Position of the last message at an address, asked of the stream's leader.
pub(super) async fn last(context: &Context, address: &Address) -> Result<StreamSeq, ReadError> {
    let unavailable =
        |error: &dyn std::error::Error| ReadError::Unavailable { reason: error.to_string() };
    let stream = context.get_stream_no_info(subject::events_stream(address.shard)).await;
    let stream = stream.map_err(|error| unavailable(&error))?;
    let last = stream.raw_message_builder().last_by_subject(address.evt()).send();
    let last = timeout(REQUEST_TIMEOUT, last).await.map_err(|elapsed| unavailable(&elapsed))?;
    match last {
        Ok(message) => Ok(StreamSeq::new(message.sequence)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(StreamSeq::ZERO),
        Err(error) => Err(unavailable(&error)),
    }
}

/// All messages at or after `from` on the one subject that fits `pattern`, in order.
pub(super) async fn one_subject(
    client: &Client,
    stream: &str,
    pattern: &str,
    from: u64,
) -> Result<Vec<Message>, ReadError> {
    let ask = || page(client, stream, pattern, from.max(1), FIRST_PAGE);
    let Page { mut messages, last, pending } = with_retries(client, stream, ask).await?;
    if pending == 0 {
        return Ok(messages);
    }
    let subject = messages.last().and_then(|message| {
        let headers = message.headers.as_ref()?;
        Some(headers.get_last(NATS_SUBJECT)?.as_str().to_owned())
    });
    let subject = subject.as_deref().unwrap_or(pattern);
    messages.extend(all(client, stream, subject, last + 1).await?);
    Ok(messages)
}

/// All messages on `filter` at or after `from`, in order.
pub(in crate::bus) async fn all(
    client: &Client,
    stream: &str,
    filter: &str,
    from: u64,
) -> Result<Vec<Message>, ReadError> {
    let mut messages = Vec::new();
    let mut from = from.max(1);
    loop {
        let page =
            with_retries(client, stream, || page(client, stream, filter, from, PAGE)).await?;
        from = page.last + 1;
        messages.extend(page.messages);
        if page.pending == 0 {
            return Ok(messages);
        }
    }
}

/// The newest message on a subject.
pub(super) async fn newest(
    client: &Client,
    stream: &str,
    subject: &str,
) -> Result<Option<Message>, ReadError> {
    one(client, stream, &json!({ "last_by_subj": subject })).await
}

/// The message at a position, if it is still there.
pub(super) async fn at(
    client: &Client,
    stream: &str,
    seq: u64,
) -> Result<Option<Message>, ReadError> {
    one(client, stream, &json!({ "seq": seq })).await
}

async fn one(
    client: &Client,
    stream: &str,
    which: &serde_json::Value,
) -> Result<Option<Message>, ReadError> {
    with_retries(client, stream, || async {
        let request = which.to_string();
        let answer = client.request(format!("$JS.API.DIRECT.GET.{stream}"), request.into()).await;
        let message = answer.map_err(|error| PageError::Passing(error.to_string()))?;
        match message.status.map(|status| status.as_u16()) {
            None => Ok(Some(message)),
            Some(404) => Ok(None),
            Some(status) => Err(refused(status, message.description)),
        }
    })
    .await
}

/// Asks until there is an answer or the stream counts as unreadable.
async fn with_retries<T, F: Future<Output = Result<T, PageError>>>(
    client: &Client,
    stream: &str,
    ask: impl Fn() -> F,
) -> Result<T, ReadError> {
    let mut pause = RETRY_PAUSE;
    let mut tries = 0;
    loop {
        tries += 1;
        let reason = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(PageError::Refused(reason)) => return Err(ReadError::Unavailable { reason }),
            Err(PageError::Passing(reason)) => reason,
        };
        if tries == TRIES {
            return Err(ReadError::Unavailable { reason });
        }
        debug!(stream, reason, tries, "reading again");
        if no_such_stream(client, stream).await {
            return Err(ReadError::NoStream { stream: stream.to_owned() });
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn page(
    client: &Client,
    stream: &str,
    filter: &str,
    from: u64,
    batch: u64,
) -> Result<Page, PageError> {
    let passing = |error: &dyn std::error::Error| PageError::Passing(error.to_string());
    let inbox = client.new_inbox();
    let mut answer = client.subscribe(inbox.clone()).await.map_err(|error| passing(&error))?;
    let request = json!({ "seq": from, "batch": batch, "next_by_subj": filter });
    client
        .publish_with_reply(
            format!("$JS.API.DIRECT.GET.{stream}"),
            inbox,
            request.to_string().into(),
        )
        .await
        .map_err(|error| passing(&error))?;
    let mut page = Page { messages: Vec::new(), last: 0, pending: 0 };
    loop {
        let message = timeout(REQUEST_TIMEOUT, answer.next())
            .await
            .map_err(|_elapsed| PageError::Passing("no answer in time".to_owned()))?
            .ok_or_else(|| PageError::Passing("the connection is closed".to_owned()))?;
        if !page.take(message)? {
            return Ok(page);
        }
    }
}

impl Page {
    /// Takes one message of the answer; whether more follow.
    fn take(&mut self, message: Message) -> Result<bool, PageError> {
        let number = |name| {
            let headers = message.headers.as_ref();
            headers.and_then(|headers: &HeaderMap| headers.get_last(name)?.as_str().parse().ok())
        };
        match message.status.map(|status| status.as_u16()) {
            None => {}
            Some(END_OF_BATCH) => {
                self.pending = number(NUM_PENDING).unwrap_or_default();
                // Also the place where a loss of the last messages shows.
                return match number(NATS_LAST_SEQUENCE) {
                    Some(last) if last != self.last => Err(lost()),
                    _ if self.pending > 0 && self.messages.is_empty() => Err(lost()),
                    _ => Ok(false),
                };
            }
            Some(404) => return Ok(false),
            Some(status) if status == StatusCode::NO_RESPONDERS.as_u16() => {
                return Err(PageError::Passing("no server has the stream".to_owned()));
            }
            Some(status) => return Err(refused(status, message.description)),
        }
        let (Some(seq), Some(last)) = (number(NATS_SEQUENCE), number(NATS_LAST_SEQUENCE)) else {
            return Err(PageError::Refused("an answer without a position".to_owned()));
        };
        if last != self.last {
            return Err(lost());
        }
        self.last = seq;
        self.messages.push(message);
        Ok(true)
    }
}

fn refused(status: u16, description: Option<String>) -> PageError {
    PageError::Refused(format!("{status} {}", description.unwrap_or_default()))
}

/// Core NATS is at most once, an answer too.
fn lost() -> PageError {
    PageError::Passing("a part of the answer was lost".to_owned())
}

/// Whether a definite answer says so; an election has the same silence.
async fn no_such_stream(client: &Client, stream: &str) -> bool {
    let subject = format!("$JS.API.STREAM.INFO.{stream}");
    let answer = client.request(subject, Vec::new().into()).await;
    answer.is_ok_and(|message| {
        serde_json::from_slice::<serde_json::Value>(&message.payload)
            .is_ok_and(|info| info["error"]["code"] == 404)
    })
}
