//! Completed tables in object storage: the store, its objects, their rows, and reading them back.
//!
//! See [`protocol::archive`](crate::protocol::archive) for names and rows, `docs/archive.md` for readers.

pub mod columns;
mod decode;
pub mod objects;
mod reader;
mod store;

pub use decode::DecodeError;
pub use objects::ObjectError;
pub use reader::{ListFilter, Reader};
pub use store::{ArchiveConfig, Purpose, StoreAccess, StoreConfig, StoreError, StoreUrl};
