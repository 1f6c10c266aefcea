//! What clients have seen in a stretch of time.

use super::histogram::Histogram;

#[derive(Clone, Debug, Default)]
pub(in super::super) struct Tally {
    /// From the publisher's stamp in an event to the read that brought it.
    pub(in super::super) latencies: Histogram,
    /// Events and answers that came.
    pub(in super::super) deliveries: u64,
    /// Events for which a newer snapshot came instead.
    pub(in super::super) conflated: u64,
    /// Events that never came, by the numbers of those after them.
    pub(in super::super) lost: u64,
    /// Events that came again, or after later ones.
    pub(in super::super) disordered: u64,
    /// Snapshots to clients that were there already.
    pub(in super::super) snapshots: u64,
    /// Reads that brought something.
    pub(in super::super) reads: u64,
    /// Refusals and errors, as frames.
    pub(in super::super) errors: u64,
    /// Connections that ended, or never came to be.
    pub(in super::super) gone: u64,
}
