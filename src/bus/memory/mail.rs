//! Requests and notices in memory: one queue group per subject, its members in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::{Mail, MailError, Reply, ReplyTo, Request, RequestError};
use super::{Connection, Faults, SUBSCRIPTION_CAPACITY, arrivals};

/// Who serves and who listens.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// By subject.
    serving: HashMap<String, Servers>,
    /// By subject, for those without wildcards.
    listening: HashMap<String, Vec<Subscription<Bytes>>>,
    listening_wide: Vec<(String, Subscription<Bytes>)>,
}

/// Who serves one subject.
#[derive(Debug, Default)]
struct Servers {
    /// The first is the next to be asked.
    group: VecDeque<Subscription<Request>>,
    /// All of them are asked.
    each: Vec<Subscription<Request>>,
}

#[derive(Debug)]
struct Subscription<T> {
    sender: mpsc::Sender<T>,
    faults: Faults,
}

impl<T> Subscription<T> {
    fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Lost if there is an outage or the queue is full.
    fn send(&self, item: T) {
        if !self.faults.is_outage() {
            self.sender.try_send(item).ok();
        }
    }
}

impl Subscriptions {
    /// Hands a request to everyone who serves the subject, of a group to whose turn it is; whether there was
    /// anybody.
    fn ask(&mut self, subject: &str, payload: &Bytes, answer: oneshot::Sender<Bytes>) -> bool {
        let Some(Servers { group, each }) = self.serving.get_mut(subject) else {
            return false;
        };
        group.retain(Subscription::is_open);
        each.retain(Subscription::is_open);
        if group.is_empty() && each.is_empty() {
            self.serving.remove(subject);
            return false;
        }
        let answer = Arc::new(Mutex::new(Some(answer)));
        for server in group.front().into_iter().chain(each.iter()) {
            let reply = Reply(ReplyTo::Memory(Arc::clone(&answer)));
            server.send(Request { payload: payload.clone(), reply });
        }
        if !group.is_empty() {
            group.rotate_left(1);
        }
        true
    }

    fn tell(&mut self, subject: &str, payload: &Bytes) {
        if let Some(listeners) = self.listening.get_mut(subject) {
            listeners.retain(Subscription::is_open);
            for listener in listeners {
                listener.send(payload.clone());
            }
        }
        self.listening_wide.retain(|(_, listener)| listener.is_open());
        for (pattern, listener) in &self.listening_wide {
            if matches(pattern, subject) {
                listener.send(payload.clone());
            }
        }
    }
}

/// Whether a subject fits a pattern of NATS.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for expected in pattern.split('.') {
        match (expected, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (expected, Some(token)) if expected == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Requests and notices, as one process sends and gets them.
#[derive(Debug)]
pub(super) struct MemoryMail {
    connection: Connection,
}

impl MemoryMail {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        let subscriptions = self.connection.network.mail.lock();
        subscriptions.expect("nothing panics with the subscriptions")
    }

    async fn reach(&self) -> Result<(), MailError> {
        self.connection.faults.travel().await;
        if self.connection.faults.is_outage() {
            return Err(MailError { reason: "there is an outage".to_owned() });
        }
        Ok(())
    }
}

#[async_trait]
impl Mail for MemoryMail {
    async fn request(
        &self,
        subject: String,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let deadline = Instant::now() + timeout;
        if self.reach().await.is_err() {
            sleep_until(deadline).await;
            return Err(RequestError::Unreachable);
        }
        let (sender, answer) = oneshot::channel();
        let asked = {
            let mut subscriptions = self.subscriptions();
            subscriptions.tell(&subject, &payload);
            subscriptions.ask(&subject, &payload, sender)
        };
        if !asked {
            return Err(RequestError::NoResponders);
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // On NATS nobody learns that a request was thrown away.
            Ok(Err(_thrown_away)) => {
                sleep_until(deadline).await;
                Err(RequestError::Timeout)
            }
            Err(_elapsed) => Err(RequestError::Timeout),
        }
    }

    async fn serve(
        &self,
        subject: String,
        group: Option<&'static str>,
    ) -> Result<BoxStream<'static, Request>, MailError> {
        self.reach().await?;
        let (sender, requests) = mpsc::channel(SUBSCRIPTION_CAPACITY);
        let faults = self.connection.faults.clone();
        let mut subscriptions = self.subscriptions();
        let servers = subscriptions.serving.entry(subject).or_default();
        let server = Subscription { sender, faults };
        match group {
            Some(_) => servers.group.push_back(server),
            None => servers.each.push(server),
        }
        Ok(arrivals(requests))
    }

    async fn notify(&self, subject: String, payload: Bytes) -> Result<(), MailError> {
        self.reach().await?;
        let mut subscriptions = self.subscriptions();
        subscriptions.tell(&subject, &payload);
        let (sender, _nobody) = oneshot::channel();
        subscriptions.ask(&subject, &payload, sender);
        Ok(())
    }

    async fn listen(&self, subject: String) -> Result<BoxStream<'static, Bytes>, MailError> {
        self.reach().await?;
        let (sender, heard) = mpsc::channel(SUBSCRIPTION_CAPACITY);
        let faults = self.connection.faults.clone();
        let listener = Subscription { sender, faults };
        let mut subscriptions = self.subscriptions();
        if subject.contains(['*', '>']) {
            subscriptions.listening_wide.push((subject, listener));
        } else {
            let listeners = subscriptions.listening.entry(subject).or_default();
            listeners.push(listener);
        }
        Ok(arrivals(heard))
    }

    fn connects(&self) -> u64 {
        self.connection.faults.connects()
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards_are_those_of_nats() {
        assert!(matches("tc.beat.*", "tc.beat.w1"));
        assert!(matches("tc.>", "tc.beat.w1"));
        assert!(!matches("tc.beat.*", "tc.beat"));
        assert!(!matches("tc.beat.*", "tc.beat.w1.x"));
        assert!(!matches("tc.beat.>", "tc.beat"));
    }
}
