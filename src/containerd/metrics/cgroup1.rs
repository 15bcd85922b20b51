//! The payload for cgroup v1 (containerd/cgroups `cgroup1/stats/metrics.proto`).

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::shared::{NetworkStat, PidsStat, RdmaStat};
use super::{Cpu, Io, Memory, Pids, limit};

#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub(super) struct Metrics {
    #[prost(message, repeated, tag = "1")]
    hugetlb: Vec<HugetlbStat>,
    #[prost(message, optional, tag = "2")]
    pids: Option<PidsStat>,
    #[prost(message, optional, tag = "3")]
    cpu: Option<CpuStat>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryStat>,
    #[prost(message, optional, tag = "5")]
    blkio: Option<BlkioStat>,
    #[prost(message, optional, tag = "6")]
    rdma: Option<RdmaStat>,
    #[prost(message, repeated, tag = "7")]
    network: Vec<NetworkStat>,
    #[prost(message, optional, tag = "8")]
    cgroup_stats: Option<CgroupStats>,
    #[prost(message, optional, tag = "9")]
    memory_oom_control: Option<MemoryOomControl>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct HugetlbStat {
    #[prost(uint64, tag = "1")]
    usage: u64,
    #[prost(uint64, tag = "2")]
    max: u64,
    #[prost(uint64, tag = "3")]
    failcnt: u64,
    #[prost(string, tag = "4")]
    pagesize: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct CpuStat {
    #[prost(message, optional, tag = "1")]
    usage: Option<CpuUsage>,
    #[prost(message, optional, tag = "2")]
    throttling: Option<Throttle>,
}

/// In nanoseconds.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct CpuUsage {
    #[prost(uint64, tag = "1")]
    total: u64,
    #[prost(uint64, tag = "2")]
    kernel: u64,
    #[prost(uint64, tag = "3")]
    user: u64,
    #[prost(uint64, repeated, tag = "4")]
    per_cpu: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct Throttle {
    #[prost(uint64, tag = "1")]
    periods: u64,
    #[prost(uint64, tag = "2")]
    throttled_periods: u64,
    #[prost(uint64, tag = "3")]
    throttled_time: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct MemoryStat {
    #[prost(uint64, tag = "1")]
    cache: u64,
    #[prost(uint64, tag = "2")]
    rss: u64,
    #[prost(uint64, tag = "3")]
    rss_huge: u64,
    #[prost(uint64, tag = "4")]
    mapped_file: u64,
    #[prost(uint64, tag = "5")]
    dirty: u64,
    #[prost(uint64, tag = "6")]
    writeback: u64,
    #[prost(uint64, tag = "7")]
    pg_pg_in: u64,
    #[prost(uint64, tag = "8")]
    pg_pg_out: u64,
    #[prost(uint64, tag = "9")]
    pg_fault: u64,
    #[prost(uint64, tag = "10")]
    pg_maj_fault: u64,
    #[prost(uint64, tag = "11")]
    inactive_anon: u64,
    #[prost(uint64, tag = "12")]
    active_anon: u64,
    #[prost(uint64, tag = "13")]
    inactive_file: u64,
    #[prost(uint64, tag = "14")]
    active_file: u64,
    #[prost(uint64, tag = "15")]
    unevictable: u64,
    #[prost(uint64, tag = "16")]
    hierarchical_memory_limit: u64,
    #[prost(uint64, tag = "17")]
    hierarchical_swap_limit: u64,
    #[prost(uint64, tag = "18")]
    total_cache: u64,
    #[prost(uint64, tag = "19")]
    total_rss: u64,
    #[prost(uint64, tag = "20")]
    total_rss_huge: u64,
    #[prost(uint64, tag = "21")]
    total_mapped_file: u64,
    #[prost(uint64, tag = "22")]
    total_dirty: u64,
    #[prost(uint64, tag = "23")]
    total_writeback: u64,
    #[prost(uint64, tag = "24")]
    total_pg_pg_in: u64,
    #[prost(uint64, tag = "25")]
    total_pg_pg_out: u64,
    #[prost(uint64, tag = "26")]
    total_pg_fault: u64,
    #[prost(uint64, tag = "27")]
    total_pg_maj_fault: u64,
    #[prost(uint64, tag = "28")]
    total_inactive_anon: u64,
    #[prost(uint64, tag = "29")]
    total_active_anon: u64,
    #[prost(uint64, tag = "30")]
    total_inactive_file: u64,
    #[prost(uint64, tag = "31")]
    total_active_file: u64,
    #[prost(uint64, tag = "32")]
    total_unevictable: u64,
    #[prost(message, optional, tag = "33")]
    usage: Option<MemoryEntry>,
    /// Memory and swap together.
    #[prost(message, optional, tag = "34")]
    swap: Option<MemoryEntry>,
    #[prost(message, optional, tag = "35")]
    kernel: Option<MemoryEntry>,
    #[prost(message, optional, tag = "36")]
    kernel_tcp: Option<MemoryEntry>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct MemoryEntry {
    #[prost(uint64, tag = "1")]
    limit: u64,
    #[prost(uint64, tag = "2")]
    usage: u64,
    #[prost(uint64, tag = "3")]
    max: u64,
    #[prost(uint64, tag = "4")]
    failcnt: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct MemoryOomControl {
    #[prost(uint64, tag = "1")]
    oom_kill_disable: u64,
    #[prost(uint64, tag = "2")]
    under_oom: u64,
    #[prost(uint64, tag = "3")]
    oom_kill: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct BlkioStat {
    #[prost(message, repeated, tag = "1")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "2")]
    io_serviced_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "3")]
    io_queued_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "4")]
    io_service_time_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "5")]
    io_wait_time_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "6")]
    io_merged_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "7")]
    io_time_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "8")]
    sectors_recursive: Vec<BlkioEntry>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct BlkioEntry {
    #[prost(string, tag = "1")]
    op: String,
    #[prost(string, tag = "2")]
    device: String,
    #[prost(uint64, tag = "3")]
    major: u64,
    #[prost(uint64, tag = "4")]
    minor: u64,
    #[prost(uint64, tag = "5")]
    value: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct CgroupStats {
    #[prost(uint64, tag = "1")]
    nr_sleeping: u64,
    #[prost(uint64, tag = "2")]
    nr_running: u64,
    #[prost(uint64, tag = "3")]
    nr_stopped: u64,
    #[prost(uint64, tag = "4")]
    nr_uninterruptible: u64,
    #[prost(uint64, tag = "5")]
    nr_io_wait: u64,
}

impl Metrics {
    /// Returns what ctr lists, by its names.
    pub(super) fn listed(&self) -> Vec<(&'static str, Value)> {
        let mut rows = Vec::new();
        if let Some(memory) = &self.memory {
            let usage = memory.usage.clone().unwrap_or_default();
            rows.push(("memory.usage_in_bytes", usage.usage.into()));
            rows.push(("memory.limit_in_bytes", usage.limit.into()));
            rows.push(("memory.stat.cache", memory.total_cache.into()));
        }
        if let Some(cpu) = &self.cpu {
            let usage = cpu.usage.clone().unwrap_or_default();
            rows.push(("cpuacct.usage", usage.total.into()));
            rows.push(("cpuacct.usage_percpu", usage.per_cpu.into()));
        }
        rows.extend(self.pids.iter().flat_map(PidsStat::listed));
        rows
    }

    pub(super) fn parts(self) -> (Memory, Cpu, Pids, Io) {
        let memory = self.memory.unwrap_or_default();
        let usage = memory.usage.unwrap_or_default();
        let both = memory.swap.unwrap_or_default();
        let memory = Memory {
            usage: usage.usage,
            limit: limit(usage.limit),
            max_usage: Some(usage.max).filter(|max| *max > 0),
            working_set: usage.usage.saturating_sub(memory.total_inactive_file),
            anon: memory.total_rss,
            file: memory.total_cache,
            kernel: memory.kernel.unwrap_or_default().usage,
            swap: both.usage.saturating_sub(usage.usage),
            // Without swap accounting the kernel has no such files, and everything in it is 0.
            swap_limit: limit(both.limit)
                .filter(|both| *both > 0)
                .and_then(|both| Some(both.saturating_sub(limit(usage.limit)?))),
            page_faults: memory.total_pg_fault,
            major_page_faults: memory.total_pg_maj_fault,
            oom_kills: self.memory_oom_control.unwrap_or_default().oom_kill,
        };
        let cpu = self.cpu.unwrap_or_default();
        let (time, throttling) = (cpu.usage.unwrap_or_default(), cpu.throttling.unwrap_or_default());
        let cpu = Cpu {
            usage: Duration::from_nanos(time.total),
            user: Duration::from_nanos(time.user),
            kernel: Duration::from_nanos(time.kernel),
            throttled: Duration::from_nanos(throttling.throttled_time),
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
        };
        let pids = self.pids.unwrap_or_default();
        // The word max comes as 0.
        let pids = Pids { current: pids.current, limit: limit(pids.limit).filter(|most| *most > 0) };
        let blkio = self.blkio.unwrap_or_default();
        let sum = |entries: &[BlkioEntry], op: &str| {
            entries.iter().filter(|e| e.op.eq_ignore_ascii_case(op)).fold(0_u64, |sum, e| sum.saturating_add(e.value))
        };
        let io = Io {
            read_bytes: sum(&blkio.io_service_bytes_recursive, "read"),
            write_bytes: sum(&blkio.io_service_bytes_recursive, "write"),
            read_ops: sum(&blkio.io_serviced_recursive, "read"),
            write_ops: sum(&blkio.io_serviced_recursive, "write"),
        };
        (memory, cpu, pids, io)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use prost::Message;

    use super::super::tests::{message, numbers, text};
    use super::*;

    /// What v2 would tell of the same container.
    pub(in super::super) fn sample() -> Metrics {
        let entry = |op: &str, value| BlkioEntry { op: op.into(), value, ..BlkioEntry::default() };
        let used = |limit, usage, max| Some(MemoryEntry { limit, usage, max, failcnt: 0 });
        Metrics {
            pids: Some(PidsStat { current: 3, limit: 0 }),
            cpu: Some(CpuStat {
                usage: Some(CpuUsage {
                    total: 1_500_000_000,
                    kernel: 500_000_000,
                    user: 1_000_000_000,
                    per_cpu: vec![1_500_000_000, 0],
                }),
                throttling: Some(Throttle { periods: 10, throttled_periods: 2, throttled_time: 7_000 }),
            }),
            memory: Some(MemoryStat {
                total_cache: 15 << 20,
                total_rss: 30 << 20,
                total_pg_fault: 100,
                total_pg_maj_fault: 5,
                total_inactive_file: 10 << 20,
                usage: used(256 << 20, 50 << 20, 60 << 20),
                swap: used(9_223_372_036_854_771_712, 51 << 20, 0),
                kernel: used(0, 3 << 20, 0),
                ..MemoryStat::default()
            }),
            blkio: Some(BlkioStat {
                io_service_bytes_recursive: vec![entry("Read", 4097), entry("Write", 8194), entry("Total", 12291)],
                io_serviced_recursive: vec![entry("Read", 4), entry("Write", 6), entry("Sync", 10)],
                ..BlkioStat::default()
            }),
            memory_oom_control: Some(MemoryOomControl { oom_kill: 1, ..MemoryOomControl::default() }),
            ..Metrics::default()
        }
    }

    /// The bytes that a shim sends, written out by the tag numbers of the protocol file.
    #[test]
    fn tags_are_those_of_the_protocol_file() {
        // cache is 18, and so on to total_unevictable, which is 32.
        let counters: Vec<(u32, u64)> = (1..=32).map(|tag| (tag, 1000 + u64::from(tag))).collect();
        let memory = [
            numbers(&counters),
            message(33, &numbers(&[(1, 5000), (2, 4000), (3, 4500), (4, 9)])), // usage { limit, usage, max, failcnt }
            message(34, &numbers(&[(1, 7000), (2, 4100), (3, 8), (4, 9)])),    // swap
            message(35, &numbers(&[(1, 6), (2, 33), (3, 8), (4, 9)])),         // kernel
            message(36, &numbers(&[(1, 6), (2, 7), (3, 8), (4, 9)])),          // kernel_tcp
        ]
        .concat();
        // op, device, major, minor, value
        let entry =
            |op: &str, value| [text(1, op), text(2, "/dev/vda"), numbers(&[(3, 8), (4, 1), (5, value)])].concat();
        let blkio = [
            message(1, &entry("Read", 21)), // io_service_bytes_recursive
            message(1, &entry("Write", 22)),
            message(2, &entry("Read", 23)), // io_serviced_recursive
            message(2, &entry("Write", 24)),
            message(3, &entry("Read", 99)), // io_queued_recursive
        ]
        .concat();
        let cpu = [
            message(1, &numbers(&[(1, 30), (2, 10), (3, 20)])), // usage { total, kernel, user }
            message(2, &numbers(&[(1, 5), (2, 2), (3, 7)])), // throttling { periods, throttled_periods, throttled_time }
        ]
        .concat();
        let stream = [
            message(1, &numbers(&[(1, 99), (2, 99), (3, 99)])), // hugetlb
            message(2, &numbers(&[(1, 3), (2, 9)])),            // pids { current, limit }
            message(3, &cpu),
            message(4, &memory),
            message(5, &blkio),
            message(8, &numbers(&[(1, 99), (2, 99), (3, 99)])), // cgroup_stats
            message(9, &numbers(&[(1, 1), (2, 2), (3, 4)])), // memory_oom_control { oom_kill_disable, under_oom, oom_kill }
        ]
        .concat();
        let (memory, cpu, pids, io) = Metrics::decode(stream.as_slice()).unwrap().parts();
        let expected = Memory {
            usage: 4000,
            limit: Some(5000),
            max_usage: Some(4500),
            working_set: 4000 - 1030,
            anon: 1019,
            file: 1018,
            kernel: 33,
            swap: 100,
            swap_limit: Some(2000),
            page_faults: 1026,
            major_page_faults: 1027,
            oom_kills: 4,
        };
        assert_eq!(memory, expected);
        let nanos = Duration::from_nanos;
        let expected = Cpu {
            usage: nanos(30),
            user: nanos(20),
            kernel: nanos(10),
            throttled: nanos(7),
            periods: 5,
            throttled_periods: 2,
        };
        assert_eq!(cpu, expected);
        assert_eq!(pids, Pids { current: 3, limit: Some(9) });
        assert_eq!(io, Io { read_bytes: 21, write_bytes: 22, read_ops: 23, write_ops: 24 });
    }
}
