//! Limits of a container's cgroup: of one that is made, and of one that runs.

use std::collections::BTreeMap;

use super::runtime::{Cpu, Memory, Pids, Resources};
use crate::oci::Error;
use crate::oci::error::refuse;

/// The period that `cpus` is a share of, in microseconds (ctr).
const CPU_PERIOD: u64 = 100_000;

/// Limits of a cgroup; what is none stays as it is.
///
/// They are written as the runtime spec has them (config-linux.md, `linux.resources`), which the runtime translates for
/// cgroup v2.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// The most memory, in bytes; -1 for no limit.
    pub memory: Option<i64>,
    /// How much memory it keeps when the machine is short of it, in bytes; -1 for no reservation.
    pub memory_reservation: Option<i64>,
    /// The most memory and swap together, in bytes; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// How many processors.
    pub cpus: Option<f64>,
    /// Microseconds of processor time in each period; -1 for no limit.
    pub cpu_quota: Option<i64>,
    /// The period in microseconds.
    pub cpu_period: Option<u64>,
    /// The weight against other cgroups; 1024 is the kernel's default.
    pub cpu_shares: Option<u64>,
    /// The processors that it may use, such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes that it may use.
    pub cpuset_mems: Option<String>,
    /// How many processes and threads; -1 for no limit.
    pub pids: Option<i64>,
    /// Files of cgroup v2 and what is written to them.
    pub unified: BTreeMap<String, String>,
}

impl Limits {
    /// Returns whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns these limits alone.
    ///
    /// # Errors
    /// [`Error::Option`] for one that makes no sense or contradicts another.
    pub fn resources(&self) -> Result<Resources, Error> {
        let mut resources = Resources::default();
        self.lay_over(&mut resources)?;
        Ok(resources)
    }

    /// Lays them over others.
    ///
    /// # Errors
    /// As [`resources`](Self::resources).
    pub fn lay_over(&self, resources: &mut Resources) -> Result<(), Error> {
        for (option, bytes, into) in [
            ("memory_limit", self.memory, 0),
            ("memory_reservation", self.memory_reservation, 1),
            ("memory_swap", self.memory_swap, 2),
        ] {
            let Some(bytes) = bytes else { continue };
            if bytes < -1 || bytes == 0 {
                return Err(refuse(
                    option,
                    &bytes.to_string(),
                    "it is a number of bytes above zero, or -1 for no limit",
                ));
            }
            let memory = resources.memory.get_or_insert_with(Memory::default);
            *[&mut memory.limit, &mut memory.reservation, &mut memory.swap][into] = Some(bytes);
        }
        self.lay_over_cpu(resources)?;
        if let Some(pids) = self.pids {
            if pids < -1 || pids == 0 {
                return Err(refuse("pids_limit", &pids.to_string(), "it is a number above zero, or -1 for no limit"));
            }
            resources.pids = Some(Pids { limit: pids });
        }
        if let Some(name) = self.unified.keys().find(|name| name.contains('/') || !name.contains('.')) {
            return Err(refuse("unified", name, "it is the name of a file of the cgroup, such as memory.high"));
        }
        resources.unified.extend(self.unified.clone());
        Ok(())
    }

    fn lay_over_cpu(&self, resources: &mut Resources) -> Result<(), Error> {
        let mut quota = self.cpu_quota;
        let mut period = self.cpu_period.filter(|period| *period > 0);
        if let Some(cpus) = self.cpus {
            if !cpus.is_finite() || cpus <= 0.0 || cpus > 1e6 {
                return Err(refuse("cpus", &cpus.to_string(), "it is a number above zero"));
            }
            if quota.is_some() || period.is_some() {
                return Err(refuse(
                    "cpus",
                    &cpus.to_string(),
                    "cpu_quota and cpu_period say the same; give one of them",
                ));
            }
            // Checked above: it is far below the largest integer, and ctr cuts it off in the same way.
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let share = (cpus * CPU_PERIOD as f64) as i64;
            quota = Some(share);
            period = Some(CPU_PERIOD);
        }
        let shares = self.cpu_shares.filter(|shares| *shares > 0);
        let (cpus, mems) = (set("cpuset_cpus", &self.cpuset_cpus)?, set("cpuset_mems", &self.cpuset_mems)?);
        if quota.is_none() && period.is_none() && shares.is_none() && cpus.is_empty() && mems.is_empty() {
            return Ok(());
        }
        let cpu = resources.cpu.get_or_insert_with(Cpu::default);
        cpu.quota = quota.or(cpu.quota);
        cpu.period = period.or(cpu.period);
        cpu.shares = shares.or(cpu.shares);
        if !cpus.is_empty() {
            cpus.clone_into(&mut cpu.cpus);
        }
        if !mems.is_empty() {
            mems.clone_into(&mut cpu.mems);
        }
        Ok(())
    }
}

/// Reads a list of numbers and ranges (cpuset(7), list format).
fn set<'a>(option: &'static str, text: &'a Option<String>) -> Result<&'a str, Error> {
    let text = text.as_deref().unwrap_or_default();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let range = |part: &str| part.split_once('-').map_or(number(part), |(a, b)| number(a) && number(b));
    if text.is_empty() || text.split(',').all(range) {
        return Ok(text);
    }
    Err(refuse(option, text, "it is a list of numbers and ranges, such as 0-2,4"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Failure, Kind};

    #[test]
    fn what_is_not_named_stays() {
        let first = Limits { memory: Some(1 << 20), cpus: Some(0.5), pids: Some(9), ..Limits::default() };
        let mut resources = first.resources().unwrap();
        let more = Limits { cpu_shares: Some(2), cpuset_cpus: Some("0-1,3".into()), ..Limits::default() };
        more.lay_over(&mut resources).unwrap();
        assert_eq!(resources.memory.as_ref().unwrap().limit, Some(1 << 20));
        let cpu = resources.cpu.as_ref().unwrap();
        assert_eq!((cpu.quota, cpu.period, cpu.shares), (Some(50_000), Some(100_000), Some(2)));
        assert_eq!(cpu.cpus, "0-1,3");
        let json = serde_json::to_value(more.resources().unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({"cpu": {"shares": 2, "cpus": "0-1,3"}}));
        assert!(Limits::default().is_empty() && !first.is_empty());
    }

    #[test]
    fn limits_for_cgroup_v2_and_none_are_written() {
        let unified = BTreeMap::from([("memory.high".to_owned(), "5".to_owned())]);
        let limits = Limits { memory: Some(-1), pids: Some(-1), unified, ..Limits::default() };
        let json = serde_json::to_value(limits.resources().unwrap()).unwrap();
        let wanted = serde_json::json!({
            "memory": {"limit": -1}, "pids": {"limit": -1}, "unified": {"memory.high": "5"},
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn nonsense_is_refused() {
        let unified = |name: &str| BTreeMap::from([(name.to_owned(), String::new())]);
        for limits in [
            Limits { memory: Some(0), ..Limits::default() },
            Limits { memory_swap: Some(-2), ..Limits::default() },
            Limits { pids: Some(0), ..Limits::default() },
            Limits { cpuset_cpus: Some("0-".into()), ..Limits::default() },
            Limits { cpuset_mems: Some("all".into()), ..Limits::default() },
            Limits { unified: unified("../x.y"), ..Limits::default() },
            Limits { unified: unified("nothing"), ..Limits::default() },
            Limits { cpus: Some(1.0), cpu_period: Some(1), ..Limits::default() },
        ] {
            assert_eq!(limits.resources().unwrap_err().kind(), Kind::Usage, "{limits:?}");
        }
    }
}
