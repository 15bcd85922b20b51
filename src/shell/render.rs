//! Values as text: tables that fit the terminal, fields, lists, JSON, YAML, CSV and plain lines.

use std::fmt::Write as _;

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::escape;
use super::format::Format;
use super::style::{Palette, Role};
use crate::script::{Cell, Column, Output};

/// The space between two columns.
const GAP: usize = 2;
/// The narrowest that a column of text is made. Numbers are never cut: what is left of one is another number.
const NARROWEST: usize = 8;

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Canvas {
    /// The width to fit, or none for as wide as it gets.
    pub width: Option<usize>,
    /// The colours.
    pub palette: Palette,
    /// Whether a terminal reads it.
    pub terminal: bool,
}

/// Draws a value for people, without a line end behind the last line. Nothing gives no text.
#[must_use]
pub fn draw(output: &Output, canvas: Canvas) -> String {
    match output {
        Output::Nothing => String::new(),
        Output::Scalar(cell) => scalar(cell, canvas),
        Output::Record { fields, .. } => record(fields, canvas),
        Output::Table { columns, rows, .. } => table(columns, rows, canvas),
        Output::List(cells) => list(cells, canvas),
    }
}

/// Writes a value for programs, without a line end behind the last line.
#[must_use]
pub fn write(output: &Output, value: &Value, format: Format, canvas: Canvas) -> String {
    match format {
        Format::Table => draw(output, canvas),
        Format::Json => {
            let text = if canvas.terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
            escape::json(&text.unwrap_or_default()).into_owned()
        }
        Format::Yaml => {
            let text = serde_saphyr::to_string(value).unwrap_or_default();
            escape::text(text.trim_end()).into_owned()
        }
        Format::Csv => csv(output),
        Format::Text => plain(output, canvas),
    }
}

fn safe(text: &str, canvas: Canvas) -> std::borrow::Cow<'_, str> {
    if canvas.terminal { escape::line(text) } else { text.into() }
}

fn scalar(cell: &Cell, canvas: Canvas) -> String {
    if canvas.terminal { escape::text(&cell.text).into_owned() } else { cell.text.clone() }
}

fn list(cells: &[Cell], canvas: Canvas) -> String {
    if cells.is_empty() {
        return canvas.palette.paint(Role::Faint, "[]");
    }
    let lines: Vec<_> = cells.iter().map(|cell| safe(&cell.text, canvas)).collect();
    lines.join("\n")
}

/// One property a line; what holds more is written below one another.
fn record(fields: &[(String, Cell)], canvas: Canvas) -> String {
    if fields.is_empty() {
        return canvas.palette.paint(Role::Faint, "#{}");
    }
    let width = fields.iter().map(|(name, _)| safe(name, canvas).width()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, cell) in fields {
        let name = safe(name, canvas);
        let pad = " ".repeat(width - name.width());
        let indent = width + GAP;
        let room = canvas.width.map(|total| total.saturating_sub(indent));
        let lines = lines_of(cell, room, canvas);
        let first = lines.first().map_or("", String::as_str);
        let line = format!("{}{pad}{:GAP$}{first}", canvas.palette.paint(Role::Heading, &name), "");
        text.push_str(line.trim_end());
        for line in lines.iter().skip(1) {
            let _ = write!(text, "\n{:indent$}{line}", "");
        }
        text.push('\n');
    }
    text.pop();
    text
}

/// Splits a property's value into lines when it does not fit one.
fn lines_of(cell: &Cell, room: Option<usize>, canvas: Canvas) -> Vec<String> {
    let nested = match &cell.json {
        Value::Object(map) => map.values().any(|value| value.is_object() || value.is_array()),
        Value::Array(items) => items.iter().any(|value| value.is_object() || value.is_array()),
        _ => false,
    };
    if nested && cell.json == cell.text {
        let yaml = serde_saphyr::to_string(&cell.json).unwrap_or_else(|_| cell.text.clone());
        return yaml.trim_end().lines().map(|line| safe(line, canvas).into_owned()).collect();
    }
    let fits = room.is_none_or(|room| safe(&cell.text, canvas).width() <= room);
    match &cell.json {
        Value::Object(map) if map.len() > 1 && !nested => {
            map.iter().map(|(key, value)| safe(&format!("{key}={}", bare(value)), canvas).into_owned()).collect()
        }
        Value::Array(items) if !fits && !nested => {
            items.iter().map(|item| safe(&bare(item), canvas).into_owned()).collect()
        }
        Value::String(text) if text.contains('\n') && *text == cell.text => {
            text.trim_end_matches('\n').lines().map(|line| safe(line, canvas).into_owned()).collect()
        }
        _ => vec![safe(&cell.text, canvas).into_owned()],
    }
}

/// Returns a value without the quotes of JSON.
fn bare(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn table(columns: &[Column], rows: &[Vec<Cell>], canvas: Canvas) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| safe(&cell.text, canvas).into_owned()).collect()).collect();
    let heads: Vec<String> = columns.iter().map(|column| safe(&column.name, canvas).into_owned()).collect();
    let natural: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(i, head)| {
            let widest = cells.iter().filter_map(|row| row.get(i)).map(|cell| cell.width()).max();
            widest.unwrap_or_default().max(head.width())
        })
        .collect();
    let least = |(column, natural): (&Column, &usize)| if column.numeric { *natural } else { NARROWEST };
    let least = columns.iter().zip(&natural).map(least);
    let narrowest: Vec<usize> = heads.iter().zip(least).map(|(head, least)| head.width().max(least)).collect();
    let widths = canvas.width.map_or_else(|| natural.clone(), |total| fit(&natural, &narrowest, total));
    let mut text = String::new();
    let mut push = |row: &[String], role: Option<Role>| {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let width = widths.get(i).copied().unwrap_or_default();
            let short = shorten(cell, width);
            let pad = " ".repeat(width.saturating_sub(short.width()));
            let painted = role.map_or_else(|| short.clone(), |role| canvas.palette.paint(role, &short));
            let numeric = columns.get(i).is_some_and(|column| column.numeric);
            let (left, right) = if numeric { (&pad, &painted) } else { (&painted, &pad) };
            line.push_str(left);
            line.push_str(right);
            line.push_str(&" ".repeat(GAP));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    push(&heads, Some(Role::Heading));
    for row in &cells {
        push(row, None);
    }
    text.pop();
    text
}

/// Makes the columns narrower until they fit: the last first, as the first names the thing, then the widest.
fn fit(natural: &[usize], narrowest: &[usize], total: usize) -> Vec<usize> {
    let mut widths = natural.to_vec();
    let gaps = GAP * widths.len().saturating_sub(1);
    let excess = |widths: &[usize]| (widths.iter().sum::<usize>() + gaps).saturating_sub(total);
    for i in (1..widths.len()).rev() {
        let over = excess(&widths);
        let least = narrowest[i].min(widths[i]);
        widths[i] -= over.min(widths[i] - least);
    }
    let over = excess(&widths);
    if let (Some(first), Some(least)) = (widths.first_mut(), narrowest.first()) {
        *first -= over.min(first.saturating_sub(*least));
    }
    widths
}

/// Shortens a text to a width, leaving out its middle: both ends of a reference tell more than its middle.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let (front, back) = (room / 2, room - room / 2);
    let head = take(text.chars(), front);
    let tail: String = take(text.chars().rev(), back).chars().rev().collect();
    format!("{head}…{tail}")
}

fn take(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut left = width;
    chars
        .take_while(|c| {
            let width = c.width().unwrap_or_default();
            let fits = width <= left;
            left = left.saturating_sub(width);
            fits
        })
        .collect()
}

fn csv(output: &Output) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut push = |row: Vec<String>| {
        // Writing to memory does not fail.
        let _ = writer.write_record(row);
    };
    match output {
        Output::Nothing => {}
        Output::Scalar(cell) => push(vec![bare(&cell.json)]),
        Output::List(cells) => cells.iter().for_each(|cell| push(vec![bare(&cell.json)])),
        Output::Record { fields, .. } => {
            push(fields.iter().map(|(name, _)| name.clone()).collect());
            push(fields.iter().map(|(_, cell)| bare(&cell.json)).collect());
        }
        Output::Table { columns, rows, .. } => {
            push(columns.iter().map(|column| column.name.clone()).collect());
            for row in rows {
                push(row.iter().map(|cell| bare(&cell.json)).collect());
            }
        }
    }
    let bytes = writer.into_inner().unwrap_or_default();
    escape::text(String::from_utf8_lossy(&bytes).trim_end_matches('\n')).into_owned()
}

fn plain(output: &Output, canvas: Canvas) -> String {
    // A tab or line end in a value would look like a column or row of its own.
    let cell = |cell: &Cell| escape::line(&bare(&cell.json)).into_owned();
    match output {
        Output::Nothing => String::new(),
        Output::Scalar(one) => {
            // What is drawn as a whole, such as a tree, has no other line.
            let text = if one.json.is_object() { one.text.clone() } else { bare(&one.json) };
            if canvas.terminal { escape::text(&text).into_owned() } else { text }
        }
        Output::List(cells) => cells.iter().map(cell).collect::<Vec<_>>().join("\n"),
        Output::Record { fields, .. } => {
            fields.iter().map(|(name, value)| format!("{name}\t{}", cell(value))).collect::<Vec<_>>().join("\n")
        }
        Output::Table { rows, .. } => {
            rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join("\t")).collect::<Vec<_>>().join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cell(text: &str) -> Cell {
        Cell { text: text.into(), json: json!(text) }
    }

    fn images() -> Output {
        let columns = vec![
            Column { name: "name".into(), numeric: false },
            Column { name: "size".into(), numeric: true },
            Column { name: "digest".into(), numeric: false },
        ];
        let row = |name: &str, size: &str| vec![cell(name), cell(size), cell("sha256:0123456789ab")];
        let rows = vec![row("docker.io/library/nginx:alpine", "12 MiB"), row("registry.example/日本語:1", "3.0 KiB")];
        Output::Table { type_name: Some("Image"), columns, rows }
    }

    fn canvas(width: Option<usize>) -> Canvas {
        Canvas { width, palette: Palette::new(false), terminal: true }
    }

    #[test]
    fn a_table_is_as_wide_as_it_needs() {
        let text = draw(&images(), canvas(None));
        assert_eq!(
            text,
            "name                               size  digest\n\
             docker.io/library/nginx:alpine   12 MiB  sha256:0123456789ab\n\
             registry.example/日本語:1       3.0 KiB  sha256:0123456789ab"
        );
    }

    #[test]
    fn a_narrow_terminal_shortens_the_last_columns_first() {
        let text = draw(&images(), canvas(Some(50)));
        assert_eq!(
            text,
            "name                               size  digest\n\
             docker.io/library/nginx:alpine   12 MiB  sha2…89ab\n\
             registry.example/日本語:1       3.0 KiB  sha2…89ab"
        );
        for width in [20, 30, 40, 60, 80] {
            let text = draw(&images(), canvas(Some(width)));
            let least = 8 + 8 + 8 + 2 * GAP;
            assert!(text.lines().all(|line| line.width() <= width.max(least)), "{width}:\n{text}");
        }
    }

    #[test]
    fn numbers_are_not_cut() {
        let numeric = |name: &str, numeric| Column { name: name.into(), numeric };
        let columns = vec![numeric("name", false), numeric("bytes", true), numeric("note", false)];
        let rows = vec![vec![cell("docker.io/library/nginx:alpine"), cell("123456789012345"), cell("of no use here")]];
        let text = draw(&Output::Table { type_name: None, columns, rows }, canvas(Some(40)));
        assert_eq!(text.lines().last(), Some("docker…alpine  123456789012345  of …here"));
    }

    #[test]
    fn fields_stand_below_one_another() {
        let labels = Cell { text: "a=1, b=2".into(), json: json!({ "a": 1, "b": "2" }) };
        let fields = vec![("name".into(), cell("box")), ("labels".into(), labels), ("note".into(), cell("x\ny"))];
        let text = draw(&Output::Record { type_name: None, fields }, canvas(Some(40)));
        assert_eq!(text, "name    box\nlabels  a=1\n        b=2\nnote    x\n        y");
    }

    #[test]
    fn programs_get_whole_values_and_no_escapes_of_ours_get_lost() {
        let value = json!([{ "name": "a\u{1b}[31m" }]);
        let row = vec![Cell { text: "short".into(), json: json!("a\u{1b}[31m,b") }];
        let columns = vec![Column { name: "name".into(), numeric: false }];
        let output = Output::Table { type_name: None, columns, rows: vec![row] };
        let write = |format| write(&output, &value, format, canvas(None));
        assert_eq!(write(Format::Csv), "name\n\"a\\u{1b}[31m,b\"");
        assert_eq!(write(Format::Text), "a\\u{1b}[31m,b");
        assert!(write(Format::Json).contains("\\u001b"));
        assert!(!write(Format::Yaml).contains('\u{1b}'));
    }
}
