//! What crosses a process: bus messages and their subjects, WebSocket frames, close codes. Bytes in, values out.

pub mod archive;
pub mod close;
pub mod envelope;
pub mod frame;
pub mod ops;
pub mod relay;
pub mod request;
pub mod subject;
