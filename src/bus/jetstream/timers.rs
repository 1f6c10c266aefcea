//! Alarms: schedules of the server, and the messages that it stores when they are due.

use std::time::{Duration, UNIX_EPOCH};

use async_nats::header;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{self, FromConsumer, pull};
use async_nats::jetstream::stream::ConsumerErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{BoxStream, StreamExt};
use tracing::{debug, warn};

use super::super::provision::for_shard;
use super::super::{AppendError, ReadError, Settle, SettleBy, Timers, Wake};
use super::JetStream;
use super::append::Publication;
use crate::domain::Timestamp;
use crate::protocol::subject::{self, Address};

/// The consumer of shard 0 that all workers share.
const WAKERS: &str = include_str!("../../../nats/consumers/wakers.json");

/// How long an alarm that rang waits for a worker that hears it. After that, whoever wants the table wakes it.
const RING_TTL: &str = "168h";

/// On their way to one listener: few, since what waits here longer than the consumer's `ack_wait` rings
/// for another listener, too.
const RINGS_AHEAD: usize = 16;

/// The server says this often that nothing rings; two silences end the listening.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// One request for alarms waits at the server for at most this long.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// The last moment that RFC 3339 can write.
const YEAR_9999: Timestamp = Timestamp::from_millis(253_402_300_799_999);

#[async_trait]
impl Timers for JetStream {
    async fn arm(&self, address: &Address, at: Timestamp) -> Result<(), AppendError> {
        let publication = Publication {
            table: address.table,
            stream: &subject::timers_stream(address.shard),
            subject: address.timer().into(),
            id: None,
            after: None,
            payload: Bytes::new(),
        };
        let (schedule, target) = (schedule(at), address.wake());
        let armed = self
            .publish(&publication, |headers| {
                headers.insert(header::NATS_SCHEDULE, schedule.as_str());
                headers.insert(header::NATS_SCHEDULE_TARGET, target.as_str());
                headers.insert(header::NATS_SCHEDULE_TTL, RING_TTL);
            })
            .await;
        armed.map_err(|failed| failed.at(address.table))?;
        Ok(())
    }

    async fn disarm(&self, address: &Address) -> Result<(), AppendError> {
        let stream = subject::timers_stream(address.shard);
        self.clear(address.table, &stream, address.timer()).await
    }

    async fn wakes(&self, shard: u16) -> Result<BoxStream<'static, Wake>, ReadError> {
        let messages = self
            .wakers(shard)
            .await?
            .stream()
            .max_messages_per_batch(RINGS_AHEAD)
            .heartbeat(HEARTBEAT)
            .expires(PULL_EXPIRES)
            .messages()
            .await
            .map_err(|error| ReadError::Unavailable { reason: error.to_string() })?;
        let wakes = messages
            .take_while(move |message| {
                if let Err(error) = message {
                    debug!(shard, %error, "alarms are not heard any more");
                }
                future::ready(message.is_ok())
            })
            .filter_map(|message| async { wake(message.ok()?).await });
        Ok(wakes.boxed())
    }
}

fn schedule(at: Timestamp) -> String {
    let at = Duration::from_millis(at.min(YEAR_9999).as_millis());
    format!("@at {}", humantime::format_rfc3339_millis(UNIX_EPOCH + at))
}

/// An alarm that rang; nothing for what is none, which is put away for good.
async fn wake(message: async_nats::jetstream::Message) -> Option<Wake> {
    let Some(address) = Address::parse(&message.subject) else {
        warn!(subject = %message.subject, "dropped an alarm of no table");
        message.ack_with(AckKind::Term).await.ok();
        return None;
    };
    Some(Wake { address, settle: Settle(SettleBy::Nats(Box::new(message))) })
}

impl JetStream {
    /// The consumer of a shard's alarms; made by whoever needs it first, and then the operator's to change.
    async fn wakers(&self, shard: u16) -> Result<consumer::PullConsumer, ReadError> {
        let stream = subject::timers_stream(shard);
        let config: consumer::Config = serde_json::from_str(&for_shard(WAKERS, shard))
            .expect("the files in nats/consumers are consumer definitions");
        let config = pull::Config::try_from_consumer_config(config).expect("it is pulled from");
        let name = config.durable_name.clone().unwrap_or_default();
        let found = self.context.get_consumer_from_stream(&name, &stream).await;
        match found {
            Ok(consumer) => return Ok(consumer),
            Err(error) if is_missing(error.kind()) => {}
            Err(error) => return Err(ReadError::Unavailable { reason: error.to_string() }),
        }
        // Two workers may make it at once: the same one.
        self.context.create_consumer_on_stream(config, &stream).await.map_err(|error| {
            if is_missing(error.kind()) {
                return ReadError::NoStream { stream };
            }
            ReadError::Unavailable { reason: error.to_string() }
        })
    }
}

fn is_missing(kind: ConsumerErrorKind) -> bool {
    match kind {
        ConsumerErrorKind::JetStream(reason) => reason.code() == 404,
        ConsumerErrorKind::TimedOut
        | ConsumerErrorKind::Request
        | ConsumerErrorKind::InvalidConsumerType
        | ConsumerErrorKind::InvalidName
        | ConsumerErrorKind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_server_reads_it() {
        assert_eq!(schedule(Timestamp::from_millis(0)), "@at 1970-01-01T00:00:00.000Z");
        let at = Timestamp::from_millis(1_795_000_000_123);
        assert_eq!(schedule(at), "@at 2026-11-18T11:06:40.123Z");
        assert_eq!(schedule(Timestamp::from_millis(u64::MAX)), "@at 9999-12-31T23:59:59.999Z");
    }
}
