//! What a container uses, in one shape for cgroup v1 and v2.

mod cgroup1;
mod cgroup2;
mod shared;

use std::time::Duration;

use chrono::{DateTime, Utc};
use containerd_client::types::Metric;
use prost::Message;
use serde_json::Value;

use super::wire;

/// What a container uses, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// The container.
    pub id: String,
    /// When it was measured, by the daemon's clock.
    pub at: DateTime<Utc>,
    /// Memory.
    pub memory: Memory,
    /// Processor time.
    pub cpu: Cpu,
    /// Processes.
    pub pids: Pids,
    /// Disk traffic.
    pub io: Io,
    /// The whole as the daemon gave it, in the words of ctr's JSON.
    pub record: Value,
    /// What ctr lists in its table, by its names.
    pub listed: Vec<(&'static str, Value)>,
}

/// Memory, in bytes. A limit of none means that there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is charged to the container, page cache included.
    pub usage: u64,
    /// The most that it may be.
    pub limit: Option<u64>,
    /// The most that it was; none where the kernel does not keep it.
    pub max_usage: Option<u64>,
    /// Usage without the page cache that can be dropped at once: what the kubelet and docker call memory in use.
    pub working_set: u64,
    /// Memory of the processes themselves (v1: rss).
    pub anon: u64,
    /// Page cache (v1: cache).
    pub file: u64,
    /// Memory of the kernel on the container's behalf (v2: slab and stacks).
    pub kernel: u64,
    /// Swap in use.
    pub swap: u64,
    /// The most swap that may be used.
    pub swap_limit: Option<u64>,
    /// Page faults so far.
    pub page_faults: u64,
    /// Page faults so far that had to read a disk.
    pub major_page_faults: u64,
    /// Processes that the kernel killed for lack of memory.
    pub oom_kills: u64,
}

/// Processor time used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it.
    pub usage: Duration,
    /// In the programs.
    pub user: Duration,
    /// In the kernel.
    pub kernel: Duration,
    /// Time that it wanted to run and was not let for its quota.
    pub throttled: Duration,
    /// Periods of the quota that have passed.
    pub periods: u64,
    /// Periods in which it was not let.
    pub throttled_periods: u64,
}

/// Processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// How many processes and threads there are.
    pub current: u64,
    /// How many there may be; none means no limit.
    pub limit: Option<u64>,
}

/// Disk traffic so far, of all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub read_ops: u64,
    /// Writes.
    pub write_ops: u64,
}

/// What a container used between two measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// The time between them.
    pub interval: Duration,
    /// Processors in use: 1.5 is one and a half.
    pub cpu_cores: f64,
    /// The same in percent of one processor, as `top` and `docker stats` show it.
    pub cpu_percent: f64,
    /// Share of the time, from 0 to 1, that it was not let run for its quota; above 1 when several threads waited.
    pub throttled: f64,
    /// Bytes read a second.
    pub read_bytes: f64,
    /// Bytes written a second.
    pub write_bytes: f64,
}

impl Metrics {
    /// Returns the metrics of a container that has used nothing.
    #[must_use]
    pub fn nothing(id: &str, at: DateTime<Utc>) -> Self {
        let (memory, cpu, pids, io) = (Memory::default(), Cpu::default(), Pids::default(), Io::default());
        let (record, listed) = (Value::Object(serde_json::Map::new()), Vec::new());
        Self { id: id.to_owned(), at, memory, cpu, pids, io, record, listed }
    }

    /// Compares with an earlier measurement of the same container.
    ///
    /// None when no time has passed, or the counters went back because the container was restarted in between.
    #[must_use]
    pub fn rate(&self, previous: &Self) -> Option<Rate> {
        let interval = (self.at - previous.at).to_std().ok().filter(|interval| !interval.is_zero())?;
        let cpu = self.cpu.usage.checked_sub(previous.cpu.usage)?;
        let throttled = self.cpu.throttled.checked_sub(previous.cpu.throttled)?;
        let read = self.io.read_bytes.checked_sub(previous.io.read_bytes)?;
        let write = self.io.write_bytes.checked_sub(previous.io.write_bytes)?;
        let seconds = interval.as_secs_f64();
        let cpu_cores = cpu.as_secs_f64() / seconds;
        Some(Rate {
            interval,
            cpu_cores,
            cpu_percent: cpu_cores * 100.0,
            throttled: throttled.as_secs_f64() / seconds,
            read_bytes: bytes(read) / seconds,
            write_bytes: bytes(write) / seconds,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB, and a rate is no count")]
fn bytes(count: u64) -> f64 {
    count as f64
}

/// Reads a measurement. Its type has no slash before it.
pub(super) fn read(metric: Metric) -> Result<Metrics, String> {
    let data = metric.data.ok_or("it has no data")?;
    let unreadable = |error: prost::DecodeError| error.to_string();
    let (record, listed, parts) = match data.type_url.as_str() {
        "io.containerd.cgroups.v1.Metrics" => {
            let payload = cgroup1::Metrics::decode(data.value.as_slice()).map_err(unreadable)?;
            (shared::record(&payload), payload.listed(), payload.parts())
        }
        "io.containerd.cgroups.v2.Metrics" => {
            let payload = cgroup2::Metrics::decode(data.value.as_slice()).map_err(unreadable)?;
            (shared::record(&payload), payload.listed(), payload.parts())
        }
        other => return Err(format!("metrics of type '{}' are not known", crate::oci::excerpt(other))),
    };
    let (memory, cpu, pids, io) = parts;
    Ok(Metrics { id: metric.id, at: wire::time(metric.timestamp), memory, cpu, pids, io, record, listed })
}

/// Reads a limit: the kernel writes none as its largest number, rounded down to pages by v1.
fn limit(value: u64) -> Option<u64> {
    (value < 1 << 62).then_some(value)
}

#[cfg(test)]
mod tests {
    use prost_types::{Any, Timestamp};
    use serde_json::json;

    use super::*;

    /// Writes numbers of a message under their tags.
    pub(super) fn numbers(fields: &[(u32, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        fields.iter().for_each(|(tag, value)| prost::encoding::uint64::encode(*tag, value, &mut bytes));
        bytes
    }

    /// Writes a message in a message, under its tag.
    pub(super) fn message(tag: u32, inner: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::bytes::encode(tag, &inner.to_vec(), &mut bytes);
        bytes
    }

    /// Writes a text in a message, under its tag.
    pub(super) fn text(tag: u32, inner: &str) -> Vec<u8> {
        message(tag, inner.as_bytes())
    }

    fn metric(type_url: &str, value: Vec<u8>) -> Metric {
        let timestamp = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
        Metric { timestamp, id: "c".into(), data: Some(Any { type_url: type_url.into(), value }) }
    }

    #[test]
    fn v2_and_v1_give_one_shape() {
        let v2 = cgroup2::tests::sample();
        let v2 = read(metric("io.containerd.cgroups.v2.Metrics", v2.encode_to_vec())).unwrap();
        assert_eq!(v2.memory.usage, 50 << 20);
        assert_eq!(v2.memory.limit, Some(256 << 20));
        assert_eq!(v2.memory.working_set, 40 << 20);
        assert_eq!(v2.memory.swap_limit, None);
        assert_eq!(v2.cpu.usage, Duration::from_micros(1_500_000));
        assert_eq!(v2.pids, Pids { current: 3, limit: None });
        assert_eq!(v2.io, Io { read_bytes: 4096 + 1, write_bytes: 8192 + 2, read_ops: 1 + 3, write_ops: 2 + 4 });

        let v1 = cgroup1::tests::sample();
        let v1 = read(metric("io.containerd.cgroups.v1.Metrics", v1.encode_to_vec())).unwrap();
        let shape = |metrics: &Metrics| (metrics.memory, metrics.cpu, metrics.pids, metrics.io);
        assert_eq!(shape(&v1), shape(&v2));
        assert_eq!((v1.id, v1.at), (v2.id, v2.at));
    }

    /// As Go writes the structures: the names of the protocol file, and no field that is nothing.
    #[test]
    fn the_record_and_the_list_are_those_of_ctr() {
        let v2 = cgroup2::tests::sample();
        let v2 = read(metric("io.containerd.cgroups.v2.Metrics", v2.encode_to_vec())).unwrap();
        let expected = json!({
            "pids": { "current": 3, "limit": u64::MAX },
            "cpu": {
                "usage_usec": 1_500_000, "user_usec": 1_000_000, "system_usec": 500_000,
                "nr_periods": 10, "nr_throttled": 2, "throttled_usec": 7,
            },
            "memory": {
                "anon": 30 << 20, "file": 15 << 20, "kernel_stack": 1 << 20, "slab": 2 << 20, "inactive_file": 10 << 20,
                "pgfault": 100, "pgmajfault": 5, "usage": 50 << 20, "usage_limit": 256 << 20,
                "swap_usage": 1 << 20, "swap_limit": u64::MAX, "max_usage": 60 << 20,
            },
            "io": { "usage": [
                { "major": 8, "rbytes": 4096, "wbytes": 8192, "rios": 1, "wios": 2 },
                { "major": 8, "minor": 16, "rbytes": 1, "wbytes": 2, "rios": 3, "wios": 4 },
            ] },
            "memory_events": { "oom_kill": 1 },
        });
        assert_eq!(v2.record, expected);
        let names: Vec<&str> = v2.listed.iter().map(|(name, _)| *name).collect();
        assert_eq!(names[..3], ["pids.current", "pids.limit", "cpu.usage_usec"]);
        assert_eq!(v2.listed.iter().find(|(name, _)| *name == "memory.swap_limit").unwrap().1, json!(u64::MAX));

        let v1 = read(metric("io.containerd.cgroups.v1.Metrics", message(2, &[]))).unwrap();
        assert_eq!(v1.record, json!({ "pids": {} }));
        assert_eq!(v1.listed, [("pids.current", json!(0)), ("pids.limit", json!(0))]);
    }

    /// The last fields of messages, which only newer kernels and daemons fill.
    #[test]
    fn the_record_has_what_is_new_too() {
        let mut pressure = numbers(&[(4, 77)]); // total
        prost::encoding::double::encode(1, &0.5, &mut pressure); // avg10
        let psi = message(1, &pressure); // some
        let stream = [
            message(2, &[numbers(&[(8, 1), (9, 2)]), message(7, &psi)].concat()), // cpu { nr_bursts, burst_usec, psi }
            message(4, &numbers(&[(42, 3)])),                                     // memory { workingset_activate_file }
            message(5, &message(1, &[text(1, "mlx5_0"), numbers(&[(2, 4)])].concat())), // rdma { current { device, hca_handles } }
            message(7, &[numbers(&[(1, 5)]), text(3, "2MB")].concat()),                 // hugetlb { current, pagesize }
            message(8, &numbers(&[(6, 6)])), // memory_events { oom_group_kill }
            message(9, &[text(1, "eth0"), numbers(&[(9, 7)])].concat()), // network { name, tx_dropped }
        ]
        .concat();
        let read = read(metric("io.containerd.cgroups.v2.Metrics", stream)).unwrap();
        let expected = json!({
            "cpu": { "psi": { "some": { "avg10": 0.5, "total": 77 } }, "nr_bursts": 1, "burst_usec": 2 },
            "memory": { "workingset_activate_file": 3 },
            "rdma": { "current": [{ "device": "mlx5_0", "hca_handles": 4 }] },
            "hugetlb": [{ "current": 5, "pagesize": "2MB" }],
            "memory_events": { "oom_group_kill": 6 },
            "network": [{ "name": "eth0", "tx_dropped": 7 }],
        });
        assert_eq!(read.record, expected);
    }

    #[test]
    fn what_is_not_cgroup_metrics_is_named() {
        let reason = read(metric("type.googleapis.com/x", Vec::new())).unwrap_err();
        assert_eq!(reason, "metrics of type 'type.googleapis.com/x' are not known");
        assert!(read(metric("io.containerd.cgroups.v2.Metrics", vec![0xff])).is_err());
    }

    #[test]
    fn rates_are_per_second_and_need_two_moments_of_one_life() {
        let v2 = cgroup2::tests::sample();
        let first = read(metric("io.containerd.cgroups.v2.Metrics", v2.encode_to_vec())).unwrap();
        let mut second = first.clone();
        second.at += chrono::Duration::seconds(2);
        second.cpu.usage += Duration::from_secs(3);
        second.io.read_bytes += 1000;
        let rate = second.rate(&first).unwrap();
        assert!((rate.cpu_cores - 1.5).abs() < 1e-9 && (rate.cpu_percent - 150.0).abs() < 1e-9);
        assert!((rate.read_bytes - 500.0).abs() < 1e-9);
        assert!(first.rate(&first).is_none());
        assert!(first.rate(&second).is_none());
        let mut restarted = second.clone();
        restarted.cpu.usage = Duration::ZERO;
        assert!(restarted.rate(&first).is_none());
    }
}
