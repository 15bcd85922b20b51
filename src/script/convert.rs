//! From Rhai's values to JSON and to what the shell shows, and back.

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map};
use serde_json::{Number, Value};

use crate::oci::Digest;
use crate::script::call::Session;
use crate::script::catalog::Catalog;
use crate::script::error::Result;
use crate::script::object::{FieldEntry, ObjectEntry, Shown, Unit};
use crate::script::time::Time;
use crate::script::units;

/// How deep values may nest when they are written out.
const MAX_DEPTH: usize = 64;

/// A value, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Nothing to show.
    Nothing,
    /// One piece of text or one number.
    Scalar(Cell),
    /// One object or map, a line a property.
    Record {
        /// The type's name, when it is an object.
        type_name: Option<&'static str>,
        /// The properties.
        fields: Vec<(String, Cell)>,
    },
    /// A list of like things, a row each.
    Table {
        /// The type's name, when they are objects.
        type_name: Option<&'static str>,
        /// The columns.
        columns: Vec<Column>,
        /// The rows, each as long as the columns.
        rows: Vec<Vec<Cell>>,
    },
    /// A list of values that are not records.
    List(Vec<Cell>),
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: String,
    /// Whether its cells are numbers, to be aligned right.
    pub numeric: bool,
}

/// One value, in the form for people and the form for programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// For people. Not escaped: the shell does that for terminals.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Cell {
    /// Returns the value without units, as CSV and plain text for programs have it.
    #[must_use]
    pub fn plain(&self) -> String {
        match &self.json {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) => self.text.clone(),
            other => other.to_string(),
        }
    }
}

/// Writes rows as CSV (RFC 4180).
///
/// # Errors
/// When rows differ in length.
pub fn csv(rows: impl Iterator<Item = Vec<String>>) -> std::result::Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(&row)?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(std::io::Error::other(error.to_string())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a value as text, tables in aligned columns of full width.
#[must_use]
pub fn plain(output: &Output) -> String {
    match output {
        Output::Nothing => String::new(),
        Output::Scalar(cell) => cell.text.clone(),
        Output::List(cells) => cells.iter().map(|cell| cell.text.clone()).collect::<Vec<_>>().join("\n"),
        Output::Record { fields, .. } => {
            let rows = fields.iter().map(|(name, cell)| vec![name.clone(), cell.text.clone()]).collect::<Vec<_>>();
            aligned(&rows, &[false, false])
        }
        Output::Table { columns, rows, .. } => {
            let mut text = vec![columns.iter().map(|column| column.name.to_uppercase()).collect::<Vec<_>>()];
            text.extend(rows.iter().map(|row| row.iter().map(|cell| cell.text.clone()).collect()));
            aligned(&text, &columns.iter().map(|column| column.numeric).collect::<Vec<_>>())
        }
    }
}

fn aligned(rows: &[Vec<String>], right: &[bool]) -> String {
    use unicode_width::UnicodeWidthStr;
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
    let widths: Vec<usize> = (0..right.len()).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(right).map(|((cell, width), right)| {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            if *right { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Turns a value into JSON. Objects become their properties, timestamps RFC 3339, functions their name.
///
/// # Errors
/// What reading a property failed with.
pub fn to_json(value: &Dynamic, session: &Session) -> Result<Value> {
    json(value, session, 0)
}

fn json(value: &Dynamic, session: &Session, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Ok(Value::String("…".into()));
    }
    let value = &value.flatten_clone();
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(Value::Bool(flag));
    }
    if let Ok(number) = value.as_int() {
        return Ok(number.into());
    }
    if let Ok(number) = value.as_float() {
        if let Some(number) = large(number) {
            return Ok(number.into());
        }
        return Ok(Number::from_f64(number).map_or(Value::Null, Value::Number));
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(Value::String(text.to_string()));
    }
    if let Some(array) = value.read_lock::<Array>() {
        if let Some(first) = array.first()
            && let Some(object) = session.catalog().and_then(|catalog| catalog.object_of(first))
        {
            object.prefetch(&array, session);
        }
        return array.iter().map(|item| json(item, session, depth + 1)).collect::<Result<_>>().map(Value::Array);
    }
    if let Some(map) = value.read_lock::<Map>() {
        let pairs = map.iter().map(|(key, item)| Ok((key.to_string(), json(item, session, depth + 1)?)));
        return pairs.collect::<Result<_>>().map(Value::Object);
    }
    if let Some(time) = value.read_lock::<Time>() {
        return Ok(Value::String(time.to_rfc3339()));
    }
    if let Some(object) = session.catalog().and_then(|catalog| catalog.object_of(value)) {
        let shown = object.fields.iter().filter(|field| field.shown < Shown::OnDemand);
        let pairs =
            shown.map(|field| Ok((field.name.to_owned(), json(&field.get(value, session)?, session, depth + 1)?)));
        return pairs.collect::<Result<_>>().map(Value::Object);
    }
    if let Some(closure) = value.read_lock::<FnPtr>() {
        return Ok(Value::String(format!("Fn({})", closure.fn_name())));
    }
    if let Some(blob) = value.read_lock::<Blob>() {
        use base64::Engine as _;
        return Ok(Value::String(base64::engine::general_purpose::STANDARD.encode(&*blob)));
    }
    Ok(Value::String(value.to_string()))
}

/// Returns an integer that is too large for one of the language. The largest of all, which the kernel writes for no limit, is exact.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only what is between is taken")]
fn large(number: f64) -> Option<u64> {
    (9_223_372_036_854_775_808.0..=18_446_744_073_709_551_616.0).contains(&number).then_some(number as u64)
}

/// Writes a value in one line as `print` does it, objects and times in lists and maps too.
#[must_use]
pub fn inline(value: &Dynamic, session: &Session) -> String {
    inline_at(value, session, 0)
}

fn inline_at(value: &Dynamic, session: &Session, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "…".into();
    }
    let value = &value.flatten_clone();
    let inner = |item: &Dynamic| match item.read_lock::<ImmutableString>() {
        Some(text) => format!("{:?}", text.as_str()),
        None if item.is_unit() => "()".into(),
        None => inline_at(item, session, depth + 1),
    };
    if let Some(time) = value.read_lock::<Time>() {
        time.to_rfc3339()
    } else if let Some(array) = value.read_lock::<Array>() {
        format!("[{}]", array.iter().map(inner).collect::<Vec<_>>().join(", "))
    } else if let Some(map) = value.read_lock::<Map>() {
        let pairs: Vec<String> = map.iter().map(|(key, item)| format!("{key:?}: {}", inner(item))).collect();
        format!("#{{{}}}", pairs.join(", "))
    } else if let Some(object) = session.catalog().and_then(|catalog| catalog.object_of(value)) {
        object.text(value, session)
    } else {
        value.to_string()
    }
}

/// Turns JSON into a value: objects become maps, numbers that fit become integers.
pub fn from_json(value: Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => flag.into(),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| number.as_f64().unwrap_or(f64::NAN).into(), Dynamic::from)
        }
        Value::String(text) => text.into(),
        Value::Array(items) => items.into_iter().map(from_json).collect::<Array>().into(),
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (key.into(), from_json(value))).collect::<Map>().into()
        }
    }
}

/// Turns an object into a map of its properties; a map stays as it is.
///
/// # Errors
/// What reading a property failed with.
pub fn to_map(value: &Dynamic, session: &Session) -> Result<Option<Map>> {
    if let Some(map) = value.read_lock::<Map>() {
        return Ok(Some(map.clone()));
    }
    let Some(object) = session.catalog().and_then(|catalog| catalog.object_of(value)) else { return Ok(None) };
    let shown = object.fields.iter().filter(|field| field.shown < Shown::OnDemand);
    shown.map(|field| Ok((field.name.into(), field.get(value, session)?))).collect::<Result<_>>().map(Some)
}

/// Makes a value ready to be shown: a list of objects or maps becomes a table, an object its properties.
///
/// `columns` picks the columns of a table; without it, those that the type shows in tables.
///
/// # Errors
/// What reading a property failed with.
pub fn output(value: &Dynamic, columns: Option<&[String]>, session: &Session) -> Result<Output> {
    let value = &value.flatten_clone();
    if value.is_unit() {
        return Ok(Output::Nothing);
    }
    let catalog = session.catalog();
    if let Some(array) = value.read_lock::<Array>() {
        return list(&array, columns, session);
    }
    if let Some(map) = value.read_lock::<Map>() {
        let fields = map.iter().map(|(key, item)| Ok((key.to_string(), cell(item, Unit::Plain, false, session)?)));
        return Ok(Output::Record { type_name: None, fields: fields.collect::<Result<_>>()? });
    }
    if let Some(object) = catalog.and_then(|catalog| catalog.object_of(value)) {
        if object.as_text {
            return Ok(Output::Scalar(cell(value, Unit::Plain, false, session)?));
        }
        let shown = object.fields.iter().filter(|field| field.shown < Shown::Data);
        let fields = shown
            .map(|field| Ok((field.name.to_owned(), cell(&field.get(value, session)?, field.unit, false, session)?)));
        return Ok(Output::Record { type_name: Some(object.name), fields: fields.collect::<Result<_>>()? });
    }
    Ok(Output::Scalar(cell(value, Unit::Plain, false, session)?))
}

/// Returns the names of the columns that can be asked for of a list of objects or maps: those that any of them has.
pub fn columns(list: &Dynamic, session: &Session) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let Some(array) = list.read_lock::<Array>() else { return names };
    for item in array.iter() {
        let object = session.catalog().and_then(|catalog| catalog.object_of(item));
        let own = object.into_iter().flat_map(|object| object.fields.iter().map(|field| field.name.to_owned()));
        let map = item.read_lock::<Map>().map(|map| map.keys().map(ToString::to_string).collect::<Vec<_>>());
        for name in own.chain(map.unwrap_or_default()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn list(array: &Array, columns: Option<&[String]>, session: &Session) -> Result<Output> {
    let catalog = session.catalog();
    let object = array.first().and_then(|first| catalog?.object_of(first));
    if let Some(object) = object
        && array
            .iter()
            .all(|item| catalog.and_then(|catalog| catalog.object_of(item)).is_some_and(|o| o.name == object.name))
    {
        return objects(array, object, columns, session);
    }
    if !array.is_empty() && array.iter().all(Dynamic::is_map) {
        return maps(array, columns, session);
    }
    array.iter().map(|item| cell(item, Unit::Plain, true, session)).collect::<Result<_>>().map(Output::List)
}

fn objects(array: &Array, object: &ObjectEntry, columns: Option<&[String]>, session: &Session) -> Result<Output> {
    object.prefetch(array, session);
    let fields: Vec<&FieldEntry> = match columns {
        Some(names) => names.iter().filter_map(|name| object.field(name)).collect(),
        None => object.fields.iter().filter(|field| field.shown == Shown::Column).collect(),
    };
    let row = |item: &Dynamic| {
        fields
            .iter()
            .map(|field| cell(&field.get(item, session)?, field.unit, true, session))
            .collect::<Result<Vec<_>>>()
    };
    let rows = array.iter().map(row).collect::<Result<Vec<_>>>()?;
    let columns = fields.iter().map(|field| Column {
        name: field.name.to_owned(),
        numeric: matches!(field.unit, Unit::Bytes | Unit::Seconds | Unit::Percent)
            || matches!(field.ty, "int" | "float"),
    });
    Ok(Output::Table { type_name: Some(object.name), columns: columns.collect(), rows })
}

fn maps(array: &Array, columns: Option<&[String]>, session: &Session) -> Result<Output> {
    let mut names: Vec<String> = columns.map(<[String]>::to_vec).unwrap_or_default();
    let mut numeric = vec![true; names.len()];
    let maps: Vec<Map> = array.iter().filter_map(|item| item.read_lock::<Map>().map(|map| map.clone())).collect();
    if columns.is_none() {
        for key in maps.iter().flat_map(|map| map.keys()) {
            if !names.iter().any(|name| name == key.as_str()) {
                names.push(key.to_string());
                numeric.push(true);
            }
        }
    }
    let mut rows = Vec::with_capacity(maps.len());
    for map in &maps {
        let mut row = Vec::with_capacity(names.len());
        for (name, numeric) in names.iter().zip(&mut numeric) {
            let value = map.get(name.as_str()).cloned().unwrap_or(Dynamic::UNIT);
            *numeric &= value.is_unit() || value.is_int() || value.is_float();
            row.push(cell(&value, Unit::Plain, true, session)?);
        }
        rows.push(row);
    }
    let columns = names.into_iter().zip(numeric).map(|(name, numeric)| Column { name, numeric }).collect();
    Ok(Output::Table { type_name: None, columns, rows })
}

fn cell(value: &Dynamic, unit: Unit, in_table: bool, session: &Session) -> Result<Cell> {
    let value = &value.flatten_clone();
    let json = to_json(value, session)?;
    Ok(Cell { text: text(value, &json, unit, in_table, session.catalog().map(AsRef::as_ref), session), json })
}

fn text(
    value: &Dynamic,
    json: &Value,
    unit: Unit,
    in_table: bool,
    catalog: Option<&Catalog>,
    session: &Session,
) -> String {
    match unit {
        Unit::Bytes => {
            if let Some(bytes) = json.as_u64() {
                return units::show_size(bytes);
            }
        }
        Unit::Seconds => {
            if let Some(duration) = json.as_f64().and_then(|s| std::time::Duration::try_from_secs_f64(s).ok()) {
                return units::show_duration(duration);
            }
        }
        Unit::Percent => {
            if let Some(share) = json.as_f64() {
                return format!("{:.1} %", share * 100.0);
            }
        }
        Unit::Digest if in_table => {
            if let Some(digest) = json.as_str().and_then(|text| text.parse::<Digest>().ok()) {
                return format!("{}:{}", digest.algorithm().as_str(), digest.short());
            }
        }
        Unit::Time if in_table => {
            if let Some(time) = value.read_lock::<Time>() {
                return time.ago();
            }
        }
        Unit::Plain | Unit::Digest | Unit::Time => {}
    }
    if let Some(object) = catalog.and_then(|catalog| catalog.object_of(value)) {
        return object.text(value, session);
    }
    match json {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let parts: Vec<String> =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect();
            parts.join(", ")
        }
        Value::Object(map) if map.is_empty() => String::new(),
        Value::Object(map) if map.values().all(|item| !item.is_object() && !item.is_array()) => {
            let parts: Vec<String> = map
                .iter()
                .map(|(key, item)| format!("{key}={}", item.as_str().map_or_else(|| item.to_string(), str::to_owned)))
                .collect();
            parts.join(", ")
        }
        other => other.to_string(),
    }
}
