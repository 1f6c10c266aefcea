//! Requests and notices on core NATS.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Request as NatsRequest, RequestErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::{Instant, timeout_at};

use super::connect::REQUEST_TIMEOUT;
use super::{Mail, MailError, Reply, ReplyTo, Request, RequestError};

/// How often a waiting caller looks whether the connection is back.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Nobody serves it, so the server answers at once that nobody does.
const BARRIER: &str = "tc.barrier";

/// Requests and notices on one connection.
#[derive(Debug)]
pub struct CoreMail {
    client: Client,
}

impl CoreMail {
    /// On a connection that others may share.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

/// Returns once the server has seen all that this connection sent before, subscriptions above all.
///
/// A flush is not enough: it ends when the bytes are with the operating system. In a cluster the other
/// servers learn of a subscription a little later.
pub(super) async fn barrier(client: &Client) -> Result<(), async_nats::RequestError> {
    let request = NatsRequest::new().timeout(Some(REQUEST_TIMEOUT));
    match client.send_request(BARRIER, request).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits for a lost connection to come back; whether it did.
///
/// What is sent meanwhile would wait in the client and go out when nobody waits for the answer any more.
pub(super) async fn connected(client: &Client, deadline: Instant) -> bool {
    while client.connection_state() != State::Connected {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}

fn failed(error: &dyn std::error::Error) -> MailError {
    MailError { reason: error.to_string() }
}

#[async_trait]
impl Mail for CoreMail {
    async fn request(
        &self,
        subject: String,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let deadline = Instant::now() + timeout;
        if !connected(&self.client, deadline).await {
            return Err(RequestError::Unreachable);
        }
        let request = NatsRequest::new().payload(payload).timeout(None);
        // The client's own timeout does not cover the wait for room in its queue.
        let answer = timeout_at(deadline, self.client.send_request(subject, request)).await;
        match answer {
            Err(_elapsed) => Err(RequestError::Timeout),
            Ok(Ok(message)) => Ok(message.payload),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => RequestError::NoResponders,
                RequestErrorKind::TimedOut => RequestError::Timeout,
                RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => RequestError::Unreachable,
            }),
        }
    }

    async fn serve(
        &self,
        subject: String,
        group: Option<&'static str>,
    ) -> Result<BoxStream<'static, Request>, MailError> {
        let requests = match group {
            Some(group) => self.client.queue_subscribe(subject, group.to_owned()).await,
            None => self.client.subscribe(subject).await,
        };
        let requests = requests.map_err(|error| failed(&error))?;
        // For askers on other connections: on this one the order of sending would do.
        barrier(&self.client).await.map_err(|error| failed(&error))?;
        let client = self.client.clone();
        let requests = requests.map(move |message| Request {
            payload: message.payload,
            reply: Reply(ReplyTo::Nats { client: client.clone(), inbox: message.reply }),
        });
        Ok(requests.boxed())
    }

    async fn notify(&self, subject: String, payload: Bytes) -> Result<(), MailError> {
        let sent = self.client.publish(subject, payload).await;
        sent.map_err(|error| failed(&error))
    }

    async fn listen(&self, subject: String) -> Result<BoxStream<'static, Bytes>, MailError> {
        let heard = self.client.subscribe(subject).await.map_err(|error| failed(&error))?;
        barrier(&self.client).await.map_err(|error| failed(&error))?;
        Ok(heard.map(|message| message.payload).boxed())
    }

    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }
}
