//! What the data plane is told at start: how many shards, on which cores, with which limits.

use std::time::Duration;

use crate::config::Config;
use crate::net::machine::{self, Facts};
use crate::net::port_list;
use crate::net::socket::{Keepalive, TcpOptions};
use crate::shard;

/// The cores that this process may run on, in order.
pub(super) fn cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).ok();
    let allowed =
        set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect());
    allowed.unwrap_or_default()
}

/// One entry a shard: the core it stays on. Without an explicit number there are as many as the machine
/// grants this process, which may be fewer than it has cores (a cgroup's quota).
pub(super) fn placement(config: &Config, cores: &[usize], granted: usize) -> Vec<Option<usize>> {
    let shards = config.shards.map_or(granted, |shards| shards as usize).max(1);
    if config.pin && shards <= cores.len() {
        cores.iter().take(shards).map(|core| Some(*core)).collect()
    } else {
        vec![None; shards]
    }
}

/// The options of the data plane on this machine.
pub(super) fn options(config: &Config, placement: Vec<Option<usize>>, facts: &Facts) -> shard::Options {
    let pipes = machine::plan_pipes(facts.nofile, placement.len());
    let udp_flows = machine::plan_flows(placement.len(), port_list::local_range().as_ref());
    let nonzero = |time: Duration| (!time.is_zero()).then_some(time);
    shard::Options {
        placement,
        connect_timeout: config.connect_timeout,
        idle_timeout: config.idle_timeout,
        half_closed_timeout: config.half_closed_timeout,
        udp: shard::UdpTimeouts {
            unanswered: nonzero(config.conntrack_udp_timeout)
                .unwrap_or(shard::UdpTimeouts::default().unanswered),
            stream: nonzero(config.conntrack_udp_timeout_stream)
                .unwrap_or(shard::UdpTimeouts::default().stream),
        },
        udp_flows,
        tcp: TcpOptions {
            nodelay: config.tcp_nodelay,
            keepalive: nonzero(config.keepalive_time).map(|time| Keepalive {
                time,
                interval: config.keepalive_interval,
                probes: config.keepalive_probes,
            }),
            user_timeout: nonzero(config.user_timeout),
        },
        splice: config.splice,
        pipes,
        ..shard::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_pinned_where_each_has_a_core() {
        let config = |shards, pin| Config { shards, pin, ..Config::defaults().unwrap() };
        for (config, cores, granted, wanted) in [
            (config(None, true), &[0, 2, 5][..], 3, vec![Some(0), Some(2), Some(5)]),
            (config(None, true), &[0, 2, 5], 1, vec![Some(0)]),
            (config(Some(2), true), &[0, 2, 5], 3, vec![Some(0), Some(2)]),
            (config(Some(2), false), &[0, 2, 5], 3, vec![None, None]),
            (config(Some(4), true), &[0, 2], 2, vec![None; 4]),
            (config(None, true), &[], 1, vec![None]),
        ] {
            assert_eq!(placement(&config, cores, granted), wanted);
        }
    }

    fn files(nofile: u64) -> Facts {
        Facts { nofile, ..Facts::gather() }
    }

    #[test]
    fn pipes_leave_descriptors_for_sessions() {
        let options = options(&Config::defaults().unwrap(), vec![None; 4], &files(1024));
        assert!(4 * 2 * options.pipes <= 1024 / 4, "{} pipes a shard", options.pipes);
    }

    #[test]
    fn zero_turns_probes_and_the_user_timeout_off() {
        let mut config = Config::defaults().unwrap();
        let tcp = options(&config, vec![None], &files(1024)).tcp;
        let keepalive = tcp.keepalive.unwrap();
        assert_eq!((keepalive.time.as_secs(), keepalive.interval.as_secs(), keepalive.probes), (60, 10, 6));
        assert_eq!(tcp.user_timeout, Some(Duration::from_secs(30)));
        (config.keepalive_time, config.user_timeout) = (Duration::ZERO, Duration::ZERO);
        let tcp = options(&config, vec![None], &files(1024)).tcp;
        assert!(tcp.keepalive.is_none() && tcp.user_timeout.is_none());
    }
}
