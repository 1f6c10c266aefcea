//! Writing: fenced, and with a known result or none at all.

use std::time::Duration;

use async_nats::client::{Request, RequestError, RequestErrorKind};
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::{HeaderMap, HeaderValue, Message, Subject, header};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::super::connect::REQUEST_TIMEOUT;
use super::super::mail::connected;
use super::super::{Append, AppendError, Entry, Origin, Stored};
use super::{JetStream, entry};
use crate::domain::{StreamSeq, TableId};
use crate::protocol::envelope::{CONTENT_TYPE, TYPE_ARCHIVED, TYPE_DONE, header as tc};
use crate::protocol::subject::{self, Address};

/// Between two tries of an append: doubles from the first to the second.
pub(super) const RETRY_PAUSE: (Duration, Duration) =
    (Duration::from_millis(25), Duration::from_millis(500));

/// `Nats-Rollup`: the message replaces everything on its subject.
pub(in crate::bus) const SUBJECT_ROLL_UP: &str = "sub";

/// Where a dead letter comes from and why it is one.
const ORIGIN_SUBJECT: &str = "Tc-Origin-Subject";
const ORIGIN_SEQ: &str = "Tc-Origin-Seq";
const REASON: &str = "Tc-Reason";

/// One message to be stored, as often as it takes to know that it is.
pub(super) struct Publication<'a> {
    pub(super) table: TableId,
    /// The stream it must land in.
    pub(super) stream: &'a str,
    pub(super) subject: Subject,
    /// `Nats-Msg-Id`. None if the newest message is all that counts, so that a second copy is harmless.
    pub(super) id: Option<&'a str>,
    /// The subject's last message, if that matters.
    pub(super) after: Option<StreamSeq>,
    pub(super) payload: Bytes,
}

/// What one try came to.
enum Answer {
    Stored(StreamSeq),
    /// The subject's last message is not the expected one, or the id is known.
    Conflict {
        /// The server compared with a message that is not stored yet.
        with_one_in_flight: bool,
    },
    /// The same message will not be stored.
    Refused(Refusal),
    /// Stored or not, now or in a moment.
    Unknown(String),
}

/// A definite no.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The server's number for it; 0 if the client refused.
    err_code: u64,
    reason: String,
}

/// Why a message is not stored, or not known to be.
pub(super) enum Failed {
    Fenced,
    Refused(Refusal),
    Unavailable,
}

impl Failed {
    pub(super) fn at(self, table: TableId) -> AppendError {
        match self {
            Self::Fenced => AppendError::Fenced { table },
            Self::Refused(Refusal { reason, .. }) => AppendError::Refused { table, reason },
            Self::Unavailable => AppendError::Unavailable { table },
        }
    }
}

/// The stream has no room, or the subject none.
const FULL: u64 = 10077;

/// "Duplicate message id is in process".
const IN_PROCESS: u64 = 10158;

/// The server's answer to a publish.
#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    code: u16,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What every answer of the server and every error of the client means for an append.
fn classify(answer: Result<Message, RequestError>) -> Answer {
    let message = match answer {
        Ok(message) => message,
        Err(error) => {
            return match error.kind() {
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    Answer::Refused(Refusal { err_code: 0, reason: error.to_string() })
                }
                // No responders is what an election looks like.
                RequestErrorKind::TimedOut
                | RequestErrorKind::NoResponders
                | RequestErrorKind::Other => Answer::Unknown(error.to_string()),
            };
        }
    };
    match serde_json::from_slice(&message.payload) {
        Ok(Ack { seq, error: None }) if seq > 0 => Answer::Stored(StreamSeq::new(seq)),
        Ok(Ack { error: Some(error), .. }) => classify_error(error),
        Ok(_) | Err(_) => Answer::Unknown("an acknowledgement without a position".to_owned()),
    }
}

fn classify_error(error: ApiError) -> Answer {
    let refused = |error: ApiError| {
        Answer::Refused(Refusal { err_code: error.err_code, reason: error.description })
    };
    match error.err_code {
        // "Wrong last sequence", and a message id twice in one batch.
        10071 | 10201 => Answer::Conflict { with_one_in_flight: false },
        10164 => Answer::Conflict { with_one_in_flight: true },
        // An earlier try of the same message is on its way to the other servers.
        IN_PROCESS => Answer::Unknown(error.description),
        // A store that is being closed has the same number as a full one: its message may land yet.
        FULL if !error.description.contains("maximum") => Answer::Unknown(error.description),
        // Too large; no room: for the stream, for the subject, for the account, on the server.
        10054 | FULL | 10023 | 10028 | 10047 => refused(error),
        _ if error.code == 429 || error.code >= 500 => Answer::Unknown(error.description),
        _ => refused(error),
    }
}

impl JetStream {
    pub(super) async fn append_commit(&self, append: Append) -> Result<StreamSeq, AppendError> {
        let started = Instant::now();
        let publication = Publication {
            table: append.address.table,
            stream: &subject::events_stream(append.address.shard),
            subject: append.address.evt().into(),
            id: Some(&append.id),
            after: Some(append.after),
            payload: append.payload,
        };
        let stored = self
            .publish(&publication, |headers| {
                headers.insert(tc::TYPE, append.types.as_str());
                headers.insert(tc::WORKER, append.worker.as_str());
                if let Some(Origin { command, request }) = &append.command {
                    headers.insert(tc::COMMAND, command.as_str());
                    // Whoever wrote it into the request may have put anything there.
                    if let Some(Ok(request)) = request.as_deref().map(str::parse::<HeaderValue>) {
                        headers.insert(tc::REQUEST, request);
                    }
                }
            })
            .await;
        metrics::histogram!("tablecast_bus_append_seconds").record(started.elapsed());
        stored.map_err(|failed| failed.at(publication.table))
    }

    pub(super) async fn append_marker(
        &self,
        address: &Address,
        marker: Bytes,
    ) -> Result<(), AppendError> {
        let publication = Publication {
            table: address.table,
            stream: &subject::events_stream(address.shard),
            subject: address.done().into(),
            id: Some(&format!("{}:done", address.table)),
            after: Some(StreamSeq::ZERO),
            payload: marker,
        };
        let stored =
            self.publish(&publication, |headers| headers.insert(tc::TYPE, TYPE_DONE)).await;
        match stored {
            // Whoever wrote it: the table has one.
            Ok(_) | Err(Failed::Fenced) => Ok(()),
            Err(failed) => Err(failed.at(address.table)),
        }
    }

    /// Replaces a table's commits, and then its marker, by messages that expire.
    pub(super) async fn roll_up(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError> {
        let stream = subject::events_stream(address.shard);
        let roll_up = |headers: &mut HeaderMap| {
            headers.insert(tc::TYPE, TYPE_ARCHIVED);
            headers.insert(header::NATS_ROLLUP, SUBJECT_ROLL_UP);
            headers.insert(header::NATS_MESSAGE_TTL, format!("{}s", ttl.as_secs().max(1)));
        };
        let publication = Publication {
            table: address.table,
            stream: &stream,
            subject: address.evt().into(),
            id: Some(&format!("{}:archived", address.table)),
            after: Some(after),
            payload: tombstone,
        };
        let mut stored = self.publish(&publication, roll_up).await;
        if matches!(stored, Err(Failed::Refused(Refusal { err_code: FULL, .. }))) {
            // A full stream refuses the very message that would make room in it.
            self.forget_before(&publication, after).await?;
            stored = self.publish(&publication, roll_up).await;
        }
        let stored = stored.map_err(|failed| failed.at(address.table))?;
        let marker = Publication {
            subject: address.done().into(),
            id: Some(&format!("{}:done-archived", address.table)),
            after: None,
            payload: Bytes::new(),
            ..publication
        };
        let marked = self.publish(&marker, roll_up).await;
        marked.map_err(|failed| failed.at(address.table))?;
        Ok(stored)
    }

    /// Removes what stands on a subject before a message that is archived with all before it.
    async fn forget_before(
        &self,
        publication: &Publication<'_>,
        archived: StreamSeq,
    ) -> Result<(), AppendError> {
        let stream = self.context.get_stream_no_info(publication.stream).await;
        let unavailable = || Failed::Unavailable.at(publication.table);
        let stream = stream.map_err(|_invalid_name| unavailable())?;
        stream
            .purge()
            .filter(publication.subject.as_str())
            .sequence(archived.get())
            .await
            .map_err(|_unknown| unavailable())?;
        Ok(())
    }

    pub(super) async fn copy_to_dead(
        &self,
        shard: u16,
        entry: &Entry,
        reason: &str,
    ) -> Result<(), AppendError> {
        let origin = subject::events_stream(shard);
        let publication = Publication {
            table: entry.address.table,
            stream: "DEAD",
            subject: subject::dead(&origin).into(),
            id: Some(&format!("{origin}:{}", entry.seq.get())),
            after: None,
            payload: entry.payload.clone(),
        };
        // A header is one line.
        let reason = reason.replace(char::is_control, " ");
        let origin_subject = match entry.what {
            Stored::Commit | Stored::Tombstone => entry.address.evt(),
            Stored::Marker => entry.address.done(),
        };
        let kept = self
            .publish(&publication, |headers| {
                headers.insert(ORIGIN_SUBJECT, origin_subject.as_str());
                headers.insert(ORIGIN_SEQ, HeaderValue::from(entry.seq.get()));
                headers.insert(REASON, reason.as_str());
            })
            .await;
        kept.map_err(|failed| failed.at(publication.table))?;
        Ok(())
    }

    /// Publishes until the result is known, with the same bytes, so that the message is stored at most once.
    pub(super) async fn publish(
        &self,
        publication: &Publication<'_>,
        headers: impl Fn(&mut HeaderMap),
    ) -> Result<StreamSeq, Failed> {
        let deadline = Instant::now() + self.append_patience;
        let mut pause = RETRY_PAUSE.0;
        let mut may_be_stored = false;
        loop {
            let request = publication.request(&headers);
            let sent = self.client.send_request(publication.subject.clone(), request);
            let answer = match timeout(REQUEST_TIMEOUT, sent).await {
                Ok(answer) => classify(answer),
                Err(_elapsed) => Answer::Unknown("no acknowledgement in time".to_owned()),
            };
            let reason = match self.settle(publication, answer).await {
                Answer::Stored(seq) => return Ok(seq),
                Answer::Conflict { .. } => {
                    metrics::counter!("tablecast_bus_fenced_total").increment(1);
                    return Err(Failed::Fenced);
                }
                // No word on an earlier try, which may have come through before the stream was full.
                Answer::Refused(_) if may_be_stored && publication.after.is_some() => {
                    return match self.look(publication, false).await {
                        Answer::Stored(seq) => Ok(seq),
                        Answer::Conflict { .. } | Answer::Refused(_) | Answer::Unknown(_) => {
                            Err(Failed::Unavailable)
                        }
                    };
                }
                Answer::Refused(refusal) => return Err(Failed::Refused(refusal)),
                Answer::Unknown(reason) => reason,
            };
            may_be_stored = true;
            metrics::counter!("tablecast_bus_append_retries_total").increment(1);
            debug!(table.id = %publication.table, reason, "publishing again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE.1);
            if !connected(&self.client, deadline).await || Instant::now() >= deadline {
                warn!(table.id = %publication.table, reason, "a message is not acknowledged");
                return Err(Failed::Unavailable);
            }
        }
    }

    /// A conflict is looked into: the message that is in the way may be our own, from an earlier try.
    async fn settle(&self, publication: &Publication<'_>, answer: Answer) -> Answer {
        if let Answer::Conflict { with_one_in_flight } = answer
            && publication.after.is_some()
        {
            return self.look(publication, with_one_in_flight).await;
        }
        answer
    }

    /// Which message follows the expected one: our own, another's, or none.
    ///
    /// The leader is asked, since a replica may not have it yet, and for the first message after the
    /// expected one, since others may have followed ours.
    async fn look(&self, publication: &Publication<'_>, with_one_in_flight: bool) -> Answer {
        let after = publication.after.unwrap_or(StreamSeq::ZERO);
        let answer = Answer::Conflict { with_one_in_flight };
        let Ok(stream) = self.context.get_stream_no_info(publication.stream).await else {
            return Answer::Unknown("the stream's name is not valid".to_owned());
        };
        let found = stream
            .raw_message_builder()
            .sequence(after.next().get())
            .next_by_subject(publication.subject.as_str())
            .send()
            .await;
        match found {
            Ok(next) if is_ours(publication, &next.headers) => {
                Answer::Stored(StreamSeq::new(next.sequence))
            }
            Ok(_) => answer,
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound if !with_one_in_flight => answer,
                // The one in flight is our own or another's: soon the log will tell.
                RawMessageErrorKind::NoMessageFound => {
                    Answer::Unknown("another message is in flight".to_owned())
                }
                RawMessageErrorKind::InvalidSubject
                | RawMessageErrorKind::JetStream(_)
                | RawMessageErrorKind::Other => Answer::Unknown(error.to_string()),
            },
        }
    }
}

fn is_ours(publication: &Publication<'_>, headers: &HeaderMap) -> bool {
    publication.id.is_some_and(|id| entry::message_id(headers).as_deref() == Some(id))
}

impl Publication<'_> {
    fn request(&self, more: impl Fn(&mut HeaderMap)) -> Request {
        let mut headers = HeaderMap::new();
        if let Some(id) = self.id {
            headers.insert(header::NATS_MESSAGE_ID, id);
        }
        if let Some(after) = self.after {
            headers.insert(
                header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                HeaderValue::from(after.get()),
            );
        }
        headers.insert("Content-Type", CONTENT_TYPE);
        more(&mut headers);
        // The caller has a timeout that covers the wait for room in the client's queue, too.
        Request::new().headers(headers).payload(self.payload.clone()).timeout(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(payload: &'static str) -> Answer {
        classify(Ok(Message {
            subject: "_INBOX.x".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }))
    }

    #[test]
    fn an_acknowledgement_is_a_position_even_of_a_duplicate() {
        for ack in [
            r#"{"stream":"EVENTS_0","seq":7}"#,
            r#"{"stream":"EVENTS_0","seq":7,"duplicate":true}"#,
        ] {
            assert!(matches!(answered(ack), Answer::Stored(seq) if seq.get() == 7));
        }
    }

    #[test]
    fn both_codes_of_a_lost_race_are_conflicts() {
        let stored = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 12"},"stream":"EVENTS_0","seq":0}"#;
        let in_flight = r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"EVENTS_0","seq":0}"#;
        for (ack, expected) in [(stored, false), (in_flight, true)] {
            let Answer::Conflict { with_one_in_flight } = answered(ack) else {
                panic!("{ack} is a conflict");
            };
            assert_eq!(with_one_in_flight, expected, "{ack}");
        }
    }

    #[test]
    fn what_will_never_fit_is_refused_and_what_may_pass_is_unknown() {
        let full =
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}"#;
        assert!(matches!(answered(full), Answer::Refused(refusal) if refusal.err_code == FULL));
        let too_large = r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#;
        assert!(matches!(answered(too_large), Answer::Refused(_)));
        let no_leader = r#"{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}"#;
        assert!(matches!(answered(no_leader), Answer::Unknown(_)));
        let in_process = r#"{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}"#;
        assert!(matches!(answered(in_process), Answer::Unknown(_)));
        let closing = r#"{"error":{"code":503,"err_code":10077,"description":"store is closed"}}"#;
        assert!(matches!(answered(closing), Answer::Unknown(_)));
        assert!(matches!(answered("what?"), Answer::Unknown(_)));
        let nobody = RequestError::new(RequestErrorKind::NoResponders);
        assert!(matches!(classify(Err(nobody)), Answer::Unknown(_)));
    }
}
