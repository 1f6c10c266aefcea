//! Batches completed tables into object storage, each exactly once.
//!
//! An object is its own record of commit: its name is a function of the position it starts at, it is
//! created only if nobody has created it, and only then are the commits of its tables buried. See
//! [`protocol::archive`](crate::protocol::archive) for names and rows, `docs/archive.md` for readers.

mod backoff;
mod batcher;
mod bury;
mod config;
mod fetch;
mod gather;
mod probe;
mod relay;
mod run;
mod shard;

pub use config::ArchiverConfig;
pub use run::{ArchiverError, run};
