//! What clients see on the wire: a golden file for each frame, in both formats, and what no input may do.

mod client;
mod golden;
mod manual;
mod server;
