//! Classes of block I/O, in the file that containerd and CRI-O read too (goresctrl, `pkg/blockio`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::host::node;
use crate::ops::{Context, Error, Level, Result};

/// The weights that there are (runtime-spec config-linux.md).
const WEIGHTS: std::ops::RangeInclusive<u64> = 10..=1000;

/// The limits of a device, as the file has them and as the runtime spec has them.
const RATES: [(&str, &str); 4] = [
    ("ThrottleReadBps", "throttleReadBpsDevice"),
    ("ThrottleWriteBps", "throttleWriteBpsDevice"),
    ("ThrottleReadIOPS", "throttleReadIOPSDevice"),
    ("ThrottleWriteIOPS", "throttleWriteIOPSDevice"),
];

#[derive(Deserialize)]
struct File {
    #[serde(rename = "Classes", default)]
    classes: BTreeMap<String, Option<Vec<Map<String, Value>>>>,
}

/// One entry of a class: a weight and limits, for some devices or for all that no entry names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    devices: Option<Vec<String>>,
    weight: Option<u64>,
    rates: [Option<u64>; RATES.len()],
}

/// Returns what a class of a file is in a runtime spec, `linux.resources.blockIO`. Devices that are not there are told of.
///
/// # Errors
/// [`Error::Argument`] when the text is no such file, or has no such class.
pub fn block_io(ctx: &Context, path: &Path, text: &str, class: &str) -> Result<Value> {
    let entries = read(text, class).map_err(|(problem, cure)| Error::Argument {
        name: format!("blockio_config_file {}", path.display()),
        problem,
        cure,
    })?;
    let mut said = Map::new();
    for entry in entries {
        let Some(patterns) = &entry.devices else {
            said.extend(entry.weight.map(|weight| ("weight".to_owned(), weight.into())));
            continue;
        };
        let mut found = Vec::new();
        for pattern in patterns {
            let devices = devices(pattern);
            if let Err(problem) = &devices {
                ctx.note(Level::Warn, &format!("class {class} of {}: {pattern} {problem}", path.display()));
            }
            found.extend(devices.unwrap_or_default());
        }
        for (major, minor) in found {
            set(&mut said, "weightDevice", "weight", (major, minor), entry.weight);
            for ((_, list), rate) in RATES.iter().zip(entry.rates) {
                set(&mut said, list, "rate", (major, minor), rate);
            }
        }
    }
    Ok(said.into())
}

/// Adds what holds for a device, in place of what an earlier entry said of it.
fn set(said: &mut Map<String, Value>, list: &str, key: &str, (major, minor): (i64, i64), value: Option<u64>) {
    let Some(value) = value else { return };
    let item = json!({ "major": major, "minor": minor, key: value });
    let Value::Array(items) = said.entry(list).or_insert_with(|| json!([])) else { return };
    match items.iter_mut().find(|old| old["major"] == major && old["minor"] == minor) {
        Some(old) => *old = item,
        None => items.push(item),
    }
}

type Problem = (String, Option<String>);

/// Reads a class of a file. Mistakes of the other classes count too, as with ctr.
fn read(text: &str, class: &str) -> std::result::Result<Vec<Entry>, Problem> {
    let read = serde_saphyr::from_str::<Value>(text).map_err(|error| error.to_string());
    let read = read.and_then(|value| serde_json::from_value::<File>(value).map_err(|error| error.to_string()));
    let file = read.map_err(|error| (format!("is no file of classes: {error}"), None))?;
    let mut classes = BTreeMap::new();
    for (name, entries) in file.classes {
        let entries = entries.unwrap_or_default().iter().map(entry).collect::<std::result::Result<Vec<_>, _>>();
        classes.insert(name.clone(), entries.map_err(|problem| (format!("has in class {name} {problem}"), None))?);
    }
    let known: Vec<String> = classes.keys().cloned().collect();
    classes.remove(class).ok_or_else(|| {
        let cure = (!known.is_empty()).then(|| format!("it has {}", known.join(", ")));
        (format!("has no class {}", crate::oci::excerpt(class)), cure)
    })
}

fn entry(fields: &Map<String, Value>) -> std::result::Result<Entry, String> {
    let mut entry = Entry::default();
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        if key == "Devices" {
            entry.devices = Some(serde_json::from_value(value.clone()).map_err(|error| format!("Devices: {error}"))?);
            continue;
        }
        let number = match value {
            Value::String(text) => quantity(text),
            Value::Number(number) => quantity(&number.to_string()),
            _ => None,
        };
        let number = number.ok_or_else(|| format!("{key}: {value} is no number such as 50M"));
        match RATES.iter().position(|(name, _)| name == key) {
            Some(at) => entry.rates[at] = Some(number?),
            None if key == "Weight" => entry.weight = Some(number?),
            None => return Err(format!("{key}, which no class has")),
        }
    }
    if let Some(weight) = entry.weight.filter(|weight| !WEIGHTS.contains(weight)) {
        return Err(format!("Weight: {weight} is not between {} and {}", WEIGHTS.start(), WEIGHTS.end()));
    }
    if entry.devices.is_none() && entry.rates.iter().any(Option::is_some) {
        return Err("limits without Devices".to_owned());
    }
    Ok(entry)
}

/// Reads a quantity as Kubernetes writes it, rounded up: `1500`, `50M`, `10Mi`, `5e3` (apimachinery `pkg/api/resource`).
fn quantity(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    let (base, power): (u128, i32) = match suffix {
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "" => (10, 0),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (2, 10),
        "Mi" => (2, 20),
        "Gi" => (2, 30),
        "Ti" => (2, 40),
        "Pi" => (2, 50),
        "Ei" => (2, 60),
        other => (10, other.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let up = base.checked_pow(u32::try_from(power.max(0)).ok()?)?;
    let down = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let down = down.checked_mul(base.checked_pow(power.min(0).unsigned_abs())?)?;
    let value = u64::try_from(digits.checked_mul(up)?.div_ceil(down)).ok()?;
    i64::try_from(value).is_ok().then_some(value)
}

/// Finds the disks that a path with wildcards names, by their numbers. The kernel limits no partitions.
fn devices(pattern: &str) -> std::result::Result<Vec<(i64, i64)>, &'static str> {
    let mut found = Vec::new();
    let mut others = false;
    for path in expand(pattern).ok_or("is no absolute path of wildcards")? {
        let device = fs::canonicalize(path).ok().and_then(|path| node(&path)).filter(|device| device.kind == "b");
        let numbers = device.map(|device| (device.major, device.minor));
        match numbers.filter(|(major, minor)| !Path::new(&format!("/sys/dev/block/{major}:{minor}/partition")).exists())
        {
            Some(numbers) if !found.contains(&numbers) => found.push(numbers),
            Some(_) => {}
            None => others = true,
        }
    }
    match (found.is_empty(), others) {
        (false, _) => Ok(found),
        (true, true) => Err("is no disk"),
        (true, false) => Err("is not there"),
    }
}

/// Finds the paths that a path with wildcards names, in order.
fn expand(pattern: &str) -> Option<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.strip_prefix('/')?.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(['*', '?', '[', '\\']) {
            found = found
                .into_iter()
                .map(|folder| folder.join(part))
                .filter(|path| path.symlink_metadata().is_ok())
                .collect();
            continue;
        }
        let matcher = GlobBuilder::new(part).literal_separator(true).build().ok()?.compile_matcher();
        let inside = |folder: PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> =
                entries.filter(|entry| matcher.is_match(entry.file_name())).map(|entry| entry.path()).collect();
            paths.sort();
            paths
        };
        found = found.into_iter().flat_map(inside).collect();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, value) in [
            ("0", 0),
            ("1500", 1500),
            ("+5", 5),
            ("50M", 50_000_000),
            ("10Mi", 10 << 20),
            ("1.5k", 1500),
            ("1500m", 2),
            ("50.5", 51),
            ("5e3", 5000),
            ("5E", 5_000_000_000_000_000_000),
            ("2500e-3", 3),
            (".5", 1),
        ] {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for text in [
            "",
            "x",
            "5x",
            "-1",
            "5K",
            "1.2.3",
            "10E",
            "5e",
            "1 M",
            "1e99",
            "99999999999999999999999999999999999999999",
        ] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn mistakes_of_a_file_are_named() {
        let fails = |text: &str, class: &str| read(text, class).unwrap_err();
        let problem = |entry: &str| fails(&format!("Classes:\n  a:\n    - {{ {entry} }}\n"), "a").0;
        assert_eq!(problem("Weight: 5"), "has in class a Weight: 5 is not between 10 and 1000");
        assert_eq!(problem("Weight: 50x"), "has in class a Weight: \"50x\" is no number such as 50M");
        assert_eq!(problem("Weight: [1]"), "has in class a Weight: [1] is no number such as 50M");
        assert_eq!(problem("Wait: 50"), "has in class a Wait, which no class has");
        assert_eq!(problem("ThrottleReadBps: 5"), "has in class a limits without Devices");
        assert!(problem("Devices: 5").starts_with("has in class a Devices: "));
        assert_eq!(fails("Classes: { b: [], c: }", "a"), ("has no class a".into(), Some("it has b, c".into())));
        assert_eq!(fails("Classes: {}", "a"), ("has no class a".into(), None));
        for text in ["", "- a", "Classes: 5", "Classes: { a: 5 }", "{"] {
            let (problem, _) = fails(text, "a");
            assert!(problem.starts_with("is no file of classes") || problem == "has no class a", "{text}: {problem}");
        }
    }

    #[test]
    fn an_entry_is_read_whole() {
        let text = "Classes:\n  a:\n    - Weight: 80\n    - Devices: [/dev/sda]\n      Weight: \"50\"\n      ThrottleReadBps: 1k\n      ThrottleWriteIOPS: 7\n";
        let some = Entry {
            devices: Some(vec!["/dev/sda".into()]),
            weight: Some(50),
            rates: [Some(1000), None, None, Some(7)],
        };
        let all = Entry { weight: Some(80), ..Entry::default() };
        assert_eq!(read(text, "a").unwrap(), [all, some]);
    }

    #[test]
    fn a_later_entry_counts() {
        let mut said = Map::new();
        set(&mut said, "weightDevice", "weight", (8, 0), Some(10));
        set(&mut said, "weightDevice", "weight", (8, 16), Some(20));
        set(&mut said, "weightDevice", "weight", (8, 0), Some(30));
        set(&mut said, "weightDevice", "weight", (8, 0), None);
        let items = [json!({"major": 8, "minor": 0, "weight": 30}), json!({"major": 8, "minor": 16, "weight": 20})];
        assert_eq!(said["weightDevice"], json!(items));
    }

    #[test]
    fn wildcards_stay_between_slashes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for name in ["sda", "sdb", "by-id/sdc"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let names = |pattern: &str| expand(&format!("{root}/{pattern}")).unwrap().len();
        assert_eq!((names("sd[a-z]"), names("*"), names("*/sd?"), names("sd[b]"), names("x")), (2, 3, 1, 1, 0));
        assert_eq!(devices(&format!("{root}/sd*")), Err("is no disk"));
        assert_eq!(devices("/dev/null"), Err("is no disk"));
        assert_eq!(devices(&format!("{root}/x")), Err("is not there"));
        assert_eq!((expand("dev/sda"), expand("/dev/[")), (None, None));
    }
}
