//! What crosses a process: bus messages and their subjects, WebSocket frames, close codes. Bytes in, values out.

pub mod archive;
pub mod close;
pub mod envelope;
pub mod frame;
pub mod ops;
pub mod relay;
pub mod request;
pub mod subject;

use serde::de::DeserializeOwned;

/// How deep anything on the bus may nest: a client's command, as deep as it may be, and what is around it. The
/// library's own limit is more than a thread's stack.
const DEPTH_MAX: usize = 256;

/// Reads a MessagePack value of the bus.
fn from_msgpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder)
}
