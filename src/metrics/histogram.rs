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

/// kube-proxy's for the time from a change of Pods to its effect.
pub const PROGRAMMING_BOUNDS: &[f64] = &[
    0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0,
    18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 28.0, 29.0, 30.0, 31.0, 32.0, 33.0, 34.0,
    35.0, 36.0, 37.0, 38.0, 39.0, 40.0, 41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 47.0, 48.0, 49.0, 50.0, 51.0,
    52.0, 53.0, 54.0, 55.0, 56.0, 57.0, 58.0, 59.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 100.0,
    105.0, 110.0, 115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0,
];

impl Default for Buckets {
    fn default() -> Self {
        Self::new(SYNC_BOUNDS)
    }
}

impl Buckets {
    /// Empty ones; the bounds grow.
    pub fn new(bounds: &'static [f64]) -> Self {
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
