//! containerd's default profile of system calls (`contrib/seccomp/seccomp_default.go`, as 2.1.9 has it: io_uring, which
//! gets round filters, is not in it any more, nor are sockets to the hypervisor, AF_VSOCK).

use serde_json::{Value, json};

use super::runtime::Spec;

/// The calls that every container may make, one a line.
const ALWAYS: &str = include_str!("syscalls.txt");

/// The personalities that may be asked for (personality(2)): Linux, 32 bit, both again with UNAME26, and a look.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The flags of clone(2) that make namespaces.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// The family of sockets to the hypervisor, past every network namespace (vsock(7)).
const AF_VSOCK: u32 = 40;

/// What clone3(2) fails with, so that libc falls back to clone(2), whose flags a filter can see: ENOSYS.
const ENOSYS: u32 = 38;

/// The calls that a capability unlocks.
const BY_CAPABILITY: [(&str, &[&str]); 13] = [
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// Returns the profile for a container with the capabilities of this spec, on the machine this runs on.
#[must_use]
pub fn default_profile(spec: &Spec) -> Value {
    let mut syscalls = vec![allow(&ALWAYS.lines().collect::<Vec<_>>())];
    syscalls.push(json!({
        "names": ["socket"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}],
    }));
    for personality in PERSONALITIES {
        syscalls.push(json!({
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": personality, "op": "SCMP_CMP_EQ"}],
        }));
    }
    // Since Linux 4.8 ptrace can no longer be used to get round a filter; every kernel that runs this is newer.
    syscalls.push(allow(&["process_vm_readv", "process_vm_writev", "ptrace"]));
    syscalls.extend(of_architecture());

    let capabilities = spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    let bounding = capabilities.map(|sets| sets.bounding.as_slice()).unwrap_or_default();
    for capability in bounding {
        match capability.as_str() {
            "CAP_BPF" => syscalls.push(allow(&["bpf"])),
            name => syscalls.extend(BY_CAPABILITY.iter().find(|(n, _)| *n == name).map(|(_, calls)| allow(calls))),
        }
    }
    if !bounding.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
        // s390 passes clone's flags as the second argument.
        let index = u32::from(cfg!(target_arch = "s390x"));
        syscalls.push(json!({
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": index, "value": CLONE_NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"}],
        }));
        syscalls.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures(), "syscalls": syscalls})
}

fn allow(names: &[&str]) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ALLOW"})
}

fn of_architecture() -> Option<Value> {
    if cfg!(target_arch = "x86_64") {
        Some(allow(&["arch_prctl", "modify_ldt"]))
    } else if cfg!(any(target_arch = "aarch64", target_arch = "arm")) {
        Some(allow(&[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "sync_file_range2",
            "breakpoint",
            "cacheflush",
            "set_tls",
        ]))
    } else if cfg!(target_arch = "s390x") {
        Some(allow(&["s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"]))
    } else if cfg!(target_arch = "riscv64") {
        Some(allow(&["riscv_flush_icache"]))
    } else {
        None
    }
}

fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"]
    } else if cfg!(target_arch = "s390x") {
        &["SCMP_ARCH_S390", "SCMP_ARCH_S390X"]
    } else if cfg!(target_arch = "riscv64") {
        &["SCMP_ARCH_RISCV64"]
    } else {
        &[]
    }
}
