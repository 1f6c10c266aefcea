//! Batches completed tables into object storage, each exactly once, and reads them back.
//!
//! An object is its own record of commit: its name is a function of the position it starts at, it is
//! created only if nobody has created it, and only then are the commits of its tables buried. See
//! [`protocol::archive`](crate::protocol::archive) for names and rows, `docs/archive.md` for readers.

mod backoff;
mod batcher;
mod bury;
mod columns;
mod config;
mod decode;
mod fetch;
mod gather;
mod objects;
mod probe;
mod reader;
mod relay;
mod run;
mod shard;
mod store;

pub use config::ArchiverConfig;
pub use decode::DecodeError;
pub use objects::ObjectError;
pub use reader::{ListFilter, Reader};
pub use run::{ArchiverError, run};
pub use store::{Purpose, StoreConfig, StoreError, StoreUrl};
