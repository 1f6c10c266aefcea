//! The list of tables in a key-value bucket: JSON, so that `nats kv get tc_lobby <table>` shows a line of it.

use async_nats::jetstream::consumer::{DeliverPolicy, push};
use async_nats::jetstream::context::Context;
use async_nats::{Client, HeaderMap, Message, header};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, future};
use tracing::warn;

use super::jetstream::append::SUBJECT_ROLL_UP;
use super::jetstream::read;
use super::{Lobby, LobbyChange, MailError};
use crate::domain::TableId;
use crate::protocol::frame::LobbyEntry;

const STREAM: &str = "KV_tc_lobby";
const ALL: &str = "$KV.tc_lobby.>";

/// How long a removed line is remembered as removed: long enough for every watcher to hear of it.
const REMOVAL_TTL: &str = "60s";

const OPERATION: &str = "KV-Operation";
const PURGE: &str = "PURGE";

/// The list of tables on one connection.
#[derive(Debug)]
pub struct KvLobby {
    client: Client,
    context: Context,
}

impl KvLobby {
    /// On a bucket that [`super::provision`] has made or checked.
    pub fn new(client: Client) -> Self {
        Self { context: super::provision::context(&client), client }
    }
}

fn failed(error: &dyn std::error::Error) -> MailError {
    MailError { reason: error.to_string() }
}

fn key(table: TableId) -> String {
    format!("$KV.tc_lobby.{table}")
}

/// What a message of the bucket says; nothing for what is not a line of ours.
fn change(message: &Message) -> Option<LobbyChange> {
    let table = message_subject(message).rsplit('.').next()?.parse().ok()?;
    let headers = message.headers.as_ref();
    let is_removal = headers.is_some_and(|headers| {
        headers.get(OPERATION).is_some() || headers.get("Nats-Marker-Reason").is_some()
    });
    if is_removal {
        return Some(LobbyChange::Removed(table));
    }
    match serde_json::from_slice(&message.payload) {
        Ok(entry) => Some(LobbyChange::Put(entry)),
        Err(error) => {
            warn!(table.id = %table, %error, "a line of the lobby cannot be read");
            None
        }
    }
}

/// A message that was read directly names its subject in a header.
fn message_subject(message: &Message) -> &str {
    let headers = message.headers.as_ref();
    let original = headers.and_then(|headers| headers.get_last(header::NATS_SUBJECT));
    original.map_or(message.subject.as_str(), header::HeaderValue::as_str)
}

#[async_trait]
impl Lobby for KvLobby {
    async fn put(&self, entry: &LobbyEntry) -> Result<(), MailError> {
        let line = serde_json::to_vec(entry).expect("a line of the list is plain data");
        let ack = self
            .context
            .publish(key(entry.table), line.into())
            .await
            .map_err(|error| failed(&error))?;
        ack.await.map_err(|error| failed(&error))?;
        Ok(())
    }

    async fn remove(&self, table: TableId) -> Result<(), MailError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, PURGE);
        headers.insert(header::NATS_ROLLUP, SUBJECT_ROLL_UP);
        headers.insert(header::NATS_MESSAGE_TTL, REMOVAL_TTL);
        let ack = self
            .context
            .publish_with_headers(key(table), headers, Vec::new().into())
            .await
            .map_err(|error| failed(&error))?;
        ack.await.map_err(|error| failed(&error))?;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<LobbyEntry>, MailError> {
        let messages = read::all(&self.client, STREAM, ALL, 1).await;
        let messages = messages.map_err(|error| failed(&error))?;
        let lines = messages.iter().filter_map(|message| match change(message)? {
            LobbyChange::Put(entry) => Some(entry),
            LobbyChange::Removed(_) => None,
        });
        Ok(lines.collect())
    }

    async fn watch(&self) -> Result<BoxStream<'static, LobbyChange>, MailError> {
        let config = push::OrderedConfig {
            description: Some("lobby watcher".to_owned()),
            deliver_subject: self.client.new_inbox(),
            filter_subject: ALL.to_owned(),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..Default::default()
        };
        let consumer = self
            .context
            .create_consumer_on_stream(config, STREAM)
            .await
            .map_err(|error| failed(&error))?;
        let messages = consumer.messages().await.map_err(|error| failed(&error))?;
        let changes = messages
            // Ends with the first error; who watches begins again with the list as it is.
            .take_while(|message| future::ready(message.is_ok()))
            .filter_map(|message| future::ready(message.ok().and_then(|found| change(&found))));
        Ok(changes.boxed())
    }
}
