//! What can go wrong for one archiver: its view of the log and of the store, with seeded faults.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tablecast::bus::{Append, AppendError, Entry, EventLog, ReadError};
use tablecast::domain::{Kind, StreamSeq, TableId, Timestamp};
use tablecast::protocol::subject::Address;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::log::{self, TestLog};

/// What goes wrong in a history. Shared by its archivers.
#[derive(Debug)]
pub(crate) struct Faults {
    dice: Mutex<ChaCha8Rng>,
    plan: Mutex<Plan>,
    crash: Notify,
    /// Requests that the store has received but not yet obeyed.
    delayed: Mutex<JoinSet<()>>,
}

/// How things go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// Not at all.
    Never,
    /// Each operation fails in this share of cases, and kills the archiver in that one.
    Random { fail: f64, kill: f64 },
    /// The archiver is killed once, at this step.
    KillAt { step: u32 },
    /// The store does not answer.
    StoreDown,
    /// Puts wait this long at the store.
    SlowPuts(Duration),
}

impl Faults {
    pub(crate) fn new(seed: u64, plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            dice: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            plan: Mutex::new(plan),
            crash: Notify::new(),
            delayed: Mutex::default(),
        })
    }

    pub(crate) fn set(&self, plan: Plan) {
        *self.plan.lock().expect("no test panics with it") = plan;
    }

    pub(crate) fn plan(&self) -> Plan {
        *self.plan.lock().expect("no test panics with it")
    }

    /// Returns when the archiver is to be killed.
    pub(crate) async fn killed(&self) {
        self.crash.notified().await;
    }

    fn chance(&self, share: f64) -> bool {
        self.dice.lock().expect("no test panics with it").random_bool(share)
    }

    pub(crate) fn pause(&self, up_to_ms: u64) -> Duration {
        Duration::from_millis(
            self.dice.lock().expect("no test panics with it").random_range(0..=up_to_ms),
        )
    }

    /// A moment at which the archiver may be killed.
    async fn step(&self) {
        let kill = match &mut *self.plan.lock().expect("no test panics with it") {
            Plan::KillAt { step: 0 } => true,
            Plan::KillAt { step } => {
                *step -= 1;
                false
            }
            Plan::Random { kill, .. } => self.chance(*kill),
            Plan::Never | Plan::StoreDown | Plan::SlowPuts(_) => false,
        };
        if kill {
            if let Plan::KillAt { .. } = self.plan() {
                self.set(Plan::Never);
            }
            self.crash.notify_one();
            std::future::pending::<()>().await;
        }
        if let Plan::Random { .. } = self.plan() {
            tokio::time::sleep(self.pause(40)).await;
        }
    }

    fn fails(&self) -> bool {
        match self.plan() {
            Plan::Random { fail, .. } => self.chance(fail),
            Plan::Never | Plan::KillAt { .. } | Plan::StoreDown | Plan::SlowPuts(_) => false,
        }
    }
}

/// One archiver's view of the log.
#[derive(Debug)]
pub(crate) struct FaultyLog {
    pub(crate) log: Arc<TestLog>,
    pub(crate) faults: Arc<Faults>,
}

impl FaultyLog {
    async fn read_step(&self) -> Result<(), ReadError> {
        self.faults.step().await;
        if self.faults.fails() {
            let reason = "a fault of the test".to_owned();
            return Err(ReadError::Unavailable { reason });
        }
        Ok(())
    }

    fn append_fails(&self, table: TableId) -> Result<(), AppendError> {
        if self.faults.fails() {
            return Err(AppendError::Unavailable { table });
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for FaultyLog {
    fn shards(&self) -> NonZeroU16 {
        self.log.shards()
    }

    async fn append(&self, append: Append) -> Result<StreamSeq, AppendError> {
        self.log.append(append).await
    }

    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError> {
        self.read_step().await?;
        self.log.read(table, from).await
    }

    async fn last(&self, address: &Address) -> Result<StreamSeq, ReadError> {
        self.log.last(address).await
    }

    async fn follow(&self, table: TableId) -> Result<BoxStream<'static, Entry>, ReadError> {
        self.log.follow(table).await
    }

    async fn complete(&self, address: &Address, marker: Bytes) -> Result<(), AppendError> {
        self.log.complete(address, marker).await
    }

    async fn markers(
        &self,
        shard: u16,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        self.read_step().await?;
        let markers = log::markers(Arc::clone(&self.log), shard, from);
        let faults = Arc::clone(&self.faults);
        // A connection that breaks: an error, then nothing more.
        let breaking = markers.scan(false, move |broken, marker| {
            let out = if *broken {
                None
            } else if faults.fails() {
                *broken = true;
                let reason = "the connection broke".to_owned();
                Some(Err(ReadError::Unavailable { reason }))
            } else {
                Some(marker)
            };
            std::future::ready(out)
        });
        Ok(breaking.boxed())
    }

    async fn commits(
        &self,
        shard: u16,
        kind: &Kind,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        EventLog::commits(&*self.log, shard, kind, from).await
    }

    async fn bury(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError> {
        self.faults.step().await;
        self.append_fails(address.table)?;
        let buried = self.log.bury(address, after, tombstone, ttl).await;
        self.faults.step().await;
        self.append_fails(address.table)?;
        buried
    }

    async fn set_aside(&self, shard: u16, entry: &Entry, reason: &str) -> Result<(), AppendError> {
        self.faults.step().await;
        self.append_fails(entry.address.table)?;
        self.log.set_aside(shard, entry, reason).await
    }

    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError> {
        self.read_step().await?;
        self.log.created_at(shard).await
    }
}

/// One archiver's view of the store.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) faults: Arc<Faults>,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.store)
    }
}

fn broken() -> Error {
    Error::Generic { store: "test", source: "a fault of the test".into() }
}

impl FaultyStore {
    async fn read_step(&self) -> Result<(), Error> {
        self.faults.step().await;
        if matches!(self.faults.plan(), Plan::StoreDown) || self.faults.fails() {
            return Err(broken());
        }
        Ok(())
    }

    fn list_later(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        let (faults, store) = (Arc::clone(&self.faults), Arc::clone(&self.store));
        let prefix = prefix.cloned();
        stream::once(async move {
            let this = Self { store, faults };
            match this.read_step().await {
                Ok(()) => this.store.list(prefix.as_ref()),
                Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
            }
        })
        .flatten()
        .boxed()
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult, Error> {
        self.faults.step().await;
        match self.faults.plan() {
            Plan::StoreDown => return Err(broken()),
            Plan::SlowPuts(wait) => tokio::time::sleep(wait).await,
            Plan::Never | Plan::Random { .. } | Plan::KillAt { .. } => {}
        }
        // Refused, or an answer that says "exists" though nothing was written (S3's 409).
        if self.faults.fails() {
            return Err(broken());
        }
        if self.faults.fails() {
            let (path, source) = (location.to_string(), "409".into());
            return Err(Error::AlreadyExists { path, source });
        }
        // Received, obeyed much later, long after the client has given up.
        if self.faults.fails() {
            let (store, wait) = (Arc::clone(&self.store), self.faults.pause(20_000));
            let location = location.clone();
            self.faults.delayed.lock().expect("no test panics with it").spawn(async move {
                tokio::time::sleep(wait).await;
                store.put_opts(&location, payload, options).await.ok();
            });
            return Err(broken());
        }
        let result = self.store.put_opts(location, payload, options).await;
        self.faults.step().await;
        // Obeyed, but the answer is lost.
        if self.faults.fails() {
            return Err(broken());
        }
        result
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>, Error> {
        panic!("a multipart upload has no \"create only if absent\"")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult, Error> {
        self.read_step().await?;
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path, Error>>,
    ) -> BoxStream<'static, Result<Path, Error>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        self.list_later(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult, Error> {
        self.read_step().await?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        _from: &Path,
        _to: &Path,
        _options: CopyOptions,
    ) -> Result<(), Error> {
        panic!("the archiver copies nothing")
    }
}
