//! Histograms as Prometheus wants them: cumulative counts at fixed bounds, in seconds.

use hdrhistogram::Histogram;

use super::counters::{PerShard, PortCounters, TimeHistograms};
use super::exposition::Text;

/// Counts below bounds that never change.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Upper bounds in seconds, growing.
    bounds: &'static [f64],
    /// How many were at most each bound and above the one before; the last is above all.
    counts: Vec<u64>,
    /// The sum of all, in seconds.
    sum: f64,
}

/// 0.001·2ⁿ seconds, fifteen of them: kube-proxy's for the time of a sync.
pub(super) const SYNC_BOUNDS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];

/// From a loopback connect to the longest useful `--connect-timeout`.
pub(super) const CONNECT_BOUNDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// From one small request to a day.
pub(super) const SESSION_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

impl Default for Buckets {
    fn default() -> Self {
        Self::new(SYNC_BOUNDS)
    }
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a time, in seconds.
    pub fn record(&mut self, seconds: f64) {
        self.record_n(seconds, 1);
    }

    fn record_n(&mut self, seconds: f64, n: u64) {
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(place) {
            *count += n;
        }
        self.sum += seconds * n as f64;
    }

    pub(super) fn write(&self, text: &mut Text, labels: &[(&str, &str)]) {
        let mut total = 0;
        let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&self.counts) {
            total += count;
            text.sample_of("_bucket", &[labels, &[("le", bound.as_str())]].concat(), total as f64);
        }
        text.sample_of("_sum", labels, self.sum);
        text.sample_of("_count", labels, total as f64);
    }
}

/// Which of a service port's histograms.
pub type Which = (fn(&TimeHistograms) -> &Histogram<u64>, &'static [f64]);

/// The histogram of all shards together; `None` before the first session.
pub(super) fn merged(stats: &PerShard<PortCounters>, (which, bounds): Which) -> Option<Buckets> {
    let times: Vec<_> = stats.iter().filter_map(|shard| shard.times.read()).collect();
    let mut buckets = (!times.is_empty()).then(|| Buckets::new(bounds))?;
    for times in &times {
        let histogram = which(times);
        for step in histogram.iter_recorded() {
            // One significant digit: the middle of what the step stands for.
            let micros = histogram.median_equivalent(step.value_iterated_to());
            buckets.record_n(micros as f64 / 1e6, step.count_since_last_iteration());
        }
    }
    Some(buckets)
}
