//! The payload for cgroup v1 (containerd/cgroups `cgroup1/stats/metrics.proto`), the parts that are used.

use std::time::Duration;

use super::{Cpu, Io, Memory, Pids, limit};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Metrics {
    #[prost(message, optional, tag = "2")]
    pids: Option<PidsStat>,
    #[prost(message, optional, tag = "3")]
    cpu: Option<CpuStat>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryStat>,
    #[prost(message, optional, tag = "5")]
    blkio: Option<BlkioStat>,
    #[prost(message, optional, tag = "9")]
    memory_oom_control: Option<MemoryOomControl>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PidsStat {
    #[prost(uint64, tag = "1")]
    current: u64,
    #[prost(uint64, tag = "2")]
    limit: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CpuStat {
    #[prost(message, optional, tag = "1")]
    usage: Option<CpuUsage>,
    #[prost(message, optional, tag = "2")]
    throttling: Option<Throttle>,
}

/// In nanoseconds.
#[derive(Clone, PartialEq, prost::Message)]
struct CpuUsage {
    #[prost(uint64, tag = "1")]
    total: u64,
    #[prost(uint64, tag = "2")]
    kernel: u64,
    #[prost(uint64, tag = "3")]
    user: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Throttle {
    #[prost(uint64, tag = "1")]
    periods: u64,
    #[prost(uint64, tag = "2")]
    throttled_periods: u64,
    #[prost(uint64, tag = "3")]
    throttled_time: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoryStat {
    #[prost(uint64, tag = "18")]
    total_cache: u64,
    #[prost(uint64, tag = "19")]
    total_rss: u64,
    #[prost(uint64, tag = "25")]
    total_pg_fault: u64,
    #[prost(uint64, tag = "26")]
    total_pg_maj_fault: u64,
    #[prost(uint64, tag = "29")]
    total_inactive_file: u64,
    #[prost(message, optional, tag = "33")]
    usage: Option<MemoryEntry>,
    /// Memory and swap together.
    #[prost(message, optional, tag = "34")]
    swap: Option<MemoryEntry>,
    #[prost(message, optional, tag = "35")]
    kernel: Option<MemoryEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoryEntry {
    #[prost(uint64, tag = "1")]
    limit: u64,
    #[prost(uint64, tag = "2")]
    usage: u64,
    #[prost(uint64, tag = "3")]
    max: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoryOomControl {
    #[prost(uint64, tag = "3")]
    oom_kill: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BlkioStat {
    #[prost(message, repeated, tag = "1")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    #[prost(message, repeated, tag = "2")]
    io_serviced_recursive: Vec<BlkioEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BlkioEntry {
    #[prost(string, tag = "1")]
    op: String,
    #[prost(uint64, tag = "5")]
    value: u64,
}

impl Metrics {
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
    use super::*;

    /// What v2 would tell of the same container.
    pub(in super::super) fn sample() -> Metrics {
        let entry = |op: &str, value| BlkioEntry { op: op.into(), value };
        Metrics {
            pids: Some(PidsStat { current: 3, limit: 0 }),
            cpu: Some(CpuStat {
                usage: Some(CpuUsage { total: 1_500_000_000, kernel: 500_000_000, user: 1_000_000_000 }),
                throttling: Some(Throttle { periods: 10, throttled_periods: 2, throttled_time: 7_000 }),
            }),
            memory: Some(MemoryStat {
                total_cache: 15 << 20,
                total_rss: 30 << 20,
                total_pg_fault: 100,
                total_pg_maj_fault: 5,
                total_inactive_file: 10 << 20,
                usage: Some(MemoryEntry { limit: 256 << 20, usage: 50 << 20, max: 60 << 20 }),
                swap: Some(MemoryEntry { limit: 9_223_372_036_854_771_712, usage: 51 << 20, max: 0 }),
                kernel: Some(MemoryEntry { limit: 0, usage: 3 << 20, max: 0 }),
            }),
            blkio: Some(BlkioStat {
                io_service_bytes_recursive: vec![entry("Read", 4097), entry("Write", 8194), entry("Total", 12291)],
                io_serviced_recursive: vec![entry("Read", 4), entry("Write", 6), entry("Sync", 10)],
            }),
            memory_oom_control: Some(MemoryOomControl { oom_kill: 1 }),
        }
    }
}
