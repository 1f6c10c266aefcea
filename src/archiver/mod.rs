//! Batches completed tables into object storage.
