//! Snapshots: one message per table, the newest, in a stream that may forget.

use async_nats::jetstream::stream::PurgeErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::super::{AppendError, ReadError, Snapshots};
use super::append::{Publication, RETRY_PAUSE};
use super::{JetStream, read};
use crate::domain::TableId;
use crate::protocol::subject::{self, Address};

#[async_trait]
impl Snapshots for JetStream {
    async fn save(&self, address: &Address, snapshot: Bytes) -> Result<(), AppendError> {
        let publication = Publication {
            table: address.table,
            stream: &subject::snapshots_stream(address.shard),
            subject: address.snap().into(),
            id: None,
            after: None,
            payload: snapshot,
        };
        let saved = self.publish(&publication, |_headers| {}).await;
        saved.map_err(|failed| failed.at(address.table))?;
        Ok(())
    }

    async fn newest(&self, address: &Address) -> Result<Option<Bytes>, ReadError> {
        let stream = subject::snapshots_stream(address.shard);
        let message = read::newest(&self.client, &stream, &address.snap()).await?;
        Ok(message.map(|message| message.payload))
    }

    async fn forget(&self, address: &Address) -> Result<(), AppendError> {
        let stream = subject::snapshots_stream(address.shard);
        self.clear(address.table, &stream, address.snap()).await
    }
}

impl JetStream {
    /// Removes what stands on a subject; that there is nothing is no error.
    pub(super) async fn clear(
        &self,
        table: TableId,
        stream: &str,
        subject: String,
    ) -> Result<(), AppendError> {
        let deadline = Instant::now() + self.append_patience;
        let mut pause = RETRY_PAUSE.0;
        let stream = self.context.get_stream_no_info(stream).await;
        let stream = stream.map_err(|error| refused(table, &error))?;
        loop {
            let Err(error) = stream.purge().filter(subject.as_str()).await else {
                return Ok(());
            };
            match error.kind() {
                PurgeErrorKind::JetStream(reason) if reason.code() < 500 => {
                    return Err(refused(table, &reason));
                }
                PurgeErrorKind::JetStream(_)
                | PurgeErrorKind::Request
                | PurgeErrorKind::TimedOut => {}
            }
            if Instant::now() + pause >= deadline {
                return Err(AppendError::Unavailable { table });
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE.1);
        }
    }
}

fn refused(table: TableId, error: &dyn std::error::Error) -> AppendError {
    AppendError::Refused { table, reason: error.to_string() }
}
