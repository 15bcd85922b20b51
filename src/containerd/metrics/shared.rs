//! The messages that the payloads for cgroup v1 and v2 have in common, and how both are JSON.

use serde::Serialize;
use serde_json::Value;

#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub(super) struct PidsStat {
    #[prost(uint64, tag = "1")]
    pub(super) current: u64,
    #[prost(uint64, tag = "2")]
    pub(super) limit: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub(super) struct RdmaStat {
    #[prost(message, repeated, tag = "1")]
    current: Vec<RdmaEntry>,
    #[prost(message, repeated, tag = "2")]
    limit: Vec<RdmaEntry>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub(super) struct RdmaEntry {
    #[prost(string, tag = "1")]
    device: String,
    #[prost(uint32, tag = "2")]
    hca_handles: u32,
    #[prost(uint32, tag = "3")]
    hca_objects: u32,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub(super) struct NetworkStat {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    rx_bytes: u64,
    #[prost(uint64, tag = "3")]
    rx_packets: u64,
    #[prost(uint64, tag = "4")]
    rx_errors: u64,
    #[prost(uint64, tag = "5")]
    rx_dropped: u64,
    #[prost(uint64, tag = "6")]
    tx_bytes: u64,
    #[prost(uint64, tag = "7")]
    tx_packets: u64,
    #[prost(uint64, tag = "8")]
    tx_errors: u64,
    #[prost(uint64, tag = "9")]
    tx_dropped: u64,
}

impl PidsStat {
    /// Returns what ctr lists of it.
    pub(super) fn listed(&self) -> [(&'static str, Value); 2] {
        [("pids.current", self.current.into()), ("pids.limit", self.limit.into())]
    }
}

/// Writes a payload as ctr does: Go's JSON, which leaves out what is 0, empty or not there, but no message.
pub(super) fn record(payload: &impl Serialize) -> Value {
    let mut record = serde_json::to_value(payload).unwrap_or_default();
    leave_out_nothing(&mut record);
    record
}

fn leave_out_nothing(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !is_nothing(field));
            fields.values_mut().for_each(leave_out_nothing);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_nothing),
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Object(_) => false,
    }
}
