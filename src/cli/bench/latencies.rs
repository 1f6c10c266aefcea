//! Every latency of a run, and its percentiles. A run is bounded, so nothing is approximated.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

/// Two percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Latencies {
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(super) fn percentiles(mut self) -> Percentiles {
        self.0.sort_unstable();
        let at = |percent: usize| {
            let last = self.0.len().saturating_sub(1);
            let latency = self.0.get(last * percent / 100).copied().unwrap_or_default();
            latency.as_secs_f64() * 1e6
        };
        Percentiles { p50_us: at(50), p99_us: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_recorded() {
        let mut latencies = Latencies::default();
        for micros in (1..=1000).rev() {
            latencies.record(Duration::from_micros(micros));
        }
        let percentiles = latencies.percentiles();
        assert!((percentiles.p50_us - 500.0).abs() < 1e-6, "{percentiles:?}");
        assert!((percentiles.p99_us - 990.0).abs() < 1e-6, "{percentiles:?}");
    }
}
