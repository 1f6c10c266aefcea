//! What a simulation comes to: every line of it with its simulated time, to be compared byte by byte.

use std::fmt::Display;
use std::sync::{Arc, Mutex};

use tablecast::runtime::clock::Clock;

/// All lines, in order.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    clock: Clock,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, lines: Arc::default() }
    }

    pub(crate) fn line(&self, line: impl Display) {
        let at = self.clock.now().as_millis();
        self.lines.lock().expect("unbroken").push(format!("{at} {line}"));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("unbroken").clone()
    }
}
