//! The payload for cgroup v2 (containerd/cgroups `cgroup2/stats/metrics.proto`).

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::shared::{NetworkStat, PidsStat, RdmaStat};
use super::{Cpu, Io, Memory, Pids, limit};

#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub(super) struct Metrics {
    #[prost(message, optional, tag = "1")]
    pids: Option<PidsStat>,
    #[prost(message, optional, tag = "2")]
    cpu: Option<CpuStat>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryStat>,
    #[prost(message, optional, tag = "5")]
    rdma: Option<RdmaStat>,
    #[prost(message, optional, tag = "6")]
    io: Option<IoStat>,
    #[prost(message, repeated, tag = "7")]
    hugetlb: Vec<HugeTlbStat>,
    #[prost(message, optional, tag = "8")]
    memory_events: Option<MemoryEvents>,
    #[prost(message, repeated, tag = "9")]
    network: Vec<NetworkStat>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct CpuStat {
    #[prost(uint64, tag = "1")]
    usage_usec: u64,
    #[prost(uint64, tag = "2")]
    user_usec: u64,
    #[prost(uint64, tag = "3")]
    system_usec: u64,
    #[prost(uint64, tag = "4")]
    nr_periods: u64,
    #[prost(uint64, tag = "5")]
    nr_throttled: u64,
    #[prost(uint64, tag = "6")]
    throttled_usec: u64,
    #[prost(message, optional, tag = "7")]
    psi: Option<PsiStats>,
    #[prost(uint64, tag = "8")]
    nr_bursts: u64,
    #[prost(uint64, tag = "9")]
    burst_usec: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct MemoryStat {
    #[prost(uint64, tag = "1")]
    anon: u64,
    #[prost(uint64, tag = "2")]
    file: u64,
    #[prost(uint64, tag = "3")]
    kernel_stack: u64,
    #[prost(uint64, tag = "4")]
    slab: u64,
    #[prost(uint64, tag = "5")]
    sock: u64,
    #[prost(uint64, tag = "6")]
    shmem: u64,
    #[prost(uint64, tag = "7")]
    file_mapped: u64,
    #[prost(uint64, tag = "8")]
    file_dirty: u64,
    #[prost(uint64, tag = "9")]
    file_writeback: u64,
    #[prost(uint64, tag = "10")]
    anon_thp: u64,
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
    slab_reclaimable: u64,
    #[prost(uint64, tag = "17")]
    slab_unreclaimable: u64,
    #[prost(uint64, tag = "18")]
    pgfault: u64,
    #[prost(uint64, tag = "19")]
    pgmajfault: u64,
    #[prost(uint64, tag = "20")]
    workingset_refault: u64,
    #[prost(uint64, tag = "21")]
    workingset_activate: u64,
    #[prost(uint64, tag = "22")]
    workingset_nodereclaim: u64,
    #[prost(uint64, tag = "23")]
    pgrefill: u64,
    #[prost(uint64, tag = "24")]
    pgscan: u64,
    #[prost(uint64, tag = "25")]
    pgsteal: u64,
    #[prost(uint64, tag = "26")]
    pgactivate: u64,
    #[prost(uint64, tag = "27")]
    pgdeactivate: u64,
    #[prost(uint64, tag = "28")]
    pglazyfree: u64,
    #[prost(uint64, tag = "29")]
    pglazyfreed: u64,
    #[prost(uint64, tag = "30")]
    thp_fault_alloc: u64,
    #[prost(uint64, tag = "31")]
    thp_collapse_alloc: u64,
    #[prost(uint64, tag = "32")]
    usage: u64,
    #[prost(uint64, tag = "33")]
    usage_limit: u64,
    #[prost(uint64, tag = "34")]
    swap_usage: u64,
    #[prost(uint64, tag = "35")]
    swap_limit: u64,
    #[prost(uint64, tag = "36")]
    max_usage: u64,
    #[prost(uint64, tag = "37")]
    swap_max_usage: u64,
    #[prost(message, optional, tag = "38")]
    psi: Option<PsiStats>,
    #[prost(uint64, tag = "39")]
    workingset_refault_anon: u64,
    #[prost(uint64, tag = "40")]
    workingset_refault_file: u64,
    #[prost(uint64, tag = "41")]
    workingset_activate_anon: u64,
    #[prost(uint64, tag = "42")]
    workingset_activate_file: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct MemoryEvents {
    #[prost(uint64, tag = "1")]
    low: u64,
    #[prost(uint64, tag = "2")]
    high: u64,
    #[prost(uint64, tag = "3")]
    max: u64,
    #[prost(uint64, tag = "4")]
    oom: u64,
    #[prost(uint64, tag = "5")]
    oom_kill: u64,
    #[prost(uint64, tag = "6")]
    oom_group_kill: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct IoStat {
    #[prost(message, repeated, tag = "1")]
    usage: Vec<IoEntry>,
    #[prost(message, optional, tag = "2")]
    psi: Option<PsiStats>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct IoEntry {
    #[prost(uint64, tag = "1")]
    major: u64,
    #[prost(uint64, tag = "2")]
    minor: u64,
    #[prost(uint64, tag = "3")]
    rbytes: u64,
    #[prost(uint64, tag = "4")]
    wbytes: u64,
    #[prost(uint64, tag = "5")]
    rios: u64,
    #[prost(uint64, tag = "6")]
    wios: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct HugeTlbStat {
    #[prost(uint64, tag = "1")]
    current: u64,
    #[prost(uint64, tag = "2")]
    max: u64,
    #[prost(string, tag = "3")]
    pagesize: String,
    #[prost(uint64, tag = "4")]
    failcnt: u64,
}

/// How long it waited for a resource.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct PsiStats {
    #[prost(message, optional, tag = "1")]
    some: Option<PsiData>,
    #[prost(message, optional, tag = "2")]
    full: Option<PsiData>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct PsiData {
    #[prost(double, tag = "1")]
    avg10: f64,
    #[prost(double, tag = "2")]
    avg60: f64,
    #[prost(double, tag = "3")]
    avg300: f64,
    #[prost(uint64, tag = "4")]
    total: u64,
}

impl Metrics {
    /// Returns what ctr lists, by its names.
    pub(super) fn listed(&self) -> Vec<(&'static str, Value)> {
        let mut rows: Vec<_> = self.pids.iter().flat_map(PidsStat::listed).collect();
        if let Some(cpu) = &self.cpu {
            rows.push(("cpu.usage_usec", cpu.usage_usec.into()));
            rows.push(("cpu.user_usec", cpu.user_usec.into()));
            rows.push(("cpu.system_usec", cpu.system_usec.into()));
            rows.push(("cpu.nr_periods", cpu.nr_periods.into()));
            rows.push(("cpu.nr_throttled", cpu.nr_throttled.into()));
            rows.push(("cpu.throttled_usec", cpu.throttled_usec.into()));
        }
        if let Some(memory) = &self.memory {
            rows.push(("memory.usage", memory.usage.into()));
            rows.push(("memory.usage_limit", memory.usage_limit.into()));
            rows.push(("memory.swap_usage", memory.swap_usage.into()));
            rows.push(("memory.swap_limit", memory.swap_limit.into()));
        }
        rows
    }

    pub(super) fn parts(self) -> (Memory, Cpu, Pids, Io) {
        let memory = self.memory.unwrap_or_default();
        let memory = Memory {
            usage: memory.usage,
            limit: limit(memory.usage_limit),
            // Linux before 5.19 has no memory.peak, which comes as 0.
            max_usage: Some(memory.max_usage).filter(|max| *max > 0),
            working_set: memory.usage.saturating_sub(memory.inactive_file),
            anon: memory.anon,
            file: memory.file,
            kernel: memory.kernel_stack.saturating_add(memory.slab),
            swap: memory.swap_usage,
            swap_limit: limit(memory.swap_limit),
            page_faults: memory.pgfault,
            major_page_faults: memory.pgmajfault,
            oom_kills: self.memory_events.unwrap_or_default().oom_kill,
        };
        let cpu = self.cpu.unwrap_or_default();
        let cpu = Cpu {
            usage: Duration::from_micros(cpu.usage_usec),
            user: Duration::from_micros(cpu.user_usec),
            kernel: Duration::from_micros(cpu.system_usec),
            throttled: Duration::from_micros(cpu.throttled_usec),
            periods: cpu.nr_periods,
            throttled_periods: cpu.nr_throttled,
        };
        let pids = self.pids.unwrap_or_default();
        // containerd/cgroups gives no limit as the largest number, in older versions as 0.
        let pids = Pids { current: pids.current, limit: limit(pids.limit).filter(|most| *most > 0) };
        let mut io = Io::default();
        for entry in self.io.unwrap_or_default().usage {
            io.read_bytes = io.read_bytes.saturating_add(entry.rbytes);
            io.write_bytes = io.write_bytes.saturating_add(entry.wbytes);
            io.read_ops = io.read_ops.saturating_add(entry.rios);
            io.write_ops = io.write_ops.saturating_add(entry.wios);
        }
        (memory, cpu, pids, io)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use prost::Message;

    use super::super::tests::{message, numbers};
    use super::*;

    pub(in super::super) fn sample() -> Metrics {
        Metrics {
            pids: Some(PidsStat { current: 3, limit: u64::MAX }),
            cpu: Some(CpuStat {
                usage_usec: 1_500_000,
                user_usec: 1_000_000,
                system_usec: 500_000,
                nr_periods: 10,
                nr_throttled: 2,
                throttled_usec: 7,
                ..CpuStat::default()
            }),
            memory: Some(MemoryStat {
                anon: 30 << 20,
                file: 15 << 20,
                kernel_stack: 1 << 20,
                slab: 2 << 20,
                inactive_file: 10 << 20,
                pgfault: 100,
                pgmajfault: 5,
                usage: 50 << 20,
                usage_limit: 256 << 20,
                swap_usage: 1 << 20,
                swap_limit: u64::MAX,
                max_usage: 60 << 20,
                ..MemoryStat::default()
            }),
            io: Some(IoStat {
                usage: vec![
                    IoEntry { major: 8, minor: 0, rbytes: 4096, wbytes: 8192, rios: 1, wios: 2 },
                    IoEntry { major: 8, minor: 16, rbytes: 1, wbytes: 2, rios: 3, wios: 4 },
                ],
                psi: None,
            }),
            memory_events: Some(MemoryEvents { oom_kill: 1, ..MemoryEvents::default() }),
            ..Metrics::default()
        }
    }

    /// The bytes that a shim sends, written out by the tag numbers of the protocol file.
    #[test]
    fn tags_are_those_of_the_protocol_file() {
        // anon is 1, and so on to swap_max_usage, which is 37.
        let counters: Vec<(u32, u64)> = (1..=37).map(|tag| (tag, 1000 + u64::from(tag))).collect();
        let stream = [
            message(1, &numbers(&[(1, 3), (2, 9)])), // pids { current, limit }
            // cpu { usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec }
            message(2, &numbers(&[(1, 100), (2, 60), (3, 40), (4, 5), (5, 2), (6, 7)])),
            message(4, &numbers(&counters)), // memory
            // io { usage { major, minor, rbytes, wbytes, rios, wios } }
            message(6, &message(1, &numbers(&[(1, 8), (2, 1), (3, 21), (4, 22), (5, 23), (6, 24)]))),
            message(7, &numbers(&[(1, 99), (2, 99)])), // hugetlb
            message(8, &numbers(&[(1, 11), (2, 12), (3, 13), (4, 14), (5, 4)])), // memory_events { low, high, max, oom, oom_kill }
        ]
        .concat();
        let (memory, cpu, pids, io) = Metrics::decode(stream.as_slice()).unwrap().parts();
        let expected = Memory {
            usage: 1032,
            limit: Some(1033),
            max_usage: Some(1036),
            working_set: 1032 - 1013,
            anon: 1001,
            file: 1002,
            kernel: 1003 + 1004, // kernel_stack, slab
            swap: 1034,
            swap_limit: Some(1035),
            page_faults: 1018,
            major_page_faults: 1019,
            oom_kills: 4,
        };
        assert_eq!(memory, expected);
        let micros = Duration::from_micros;
        let expected = Cpu {
            usage: micros(100),
            user: micros(60),
            kernel: micros(40),
            throttled: micros(7),
            periods: 5,
            throttled_periods: 2,
        };
        assert_eq!(cpu, expected);
        assert_eq!(pids, Pids { current: 3, limit: Some(9) });
        assert_eq!(io, Io { read_bytes: 21, write_bytes: 22, read_ops: 23, write_ops: 24 });
    }
}
