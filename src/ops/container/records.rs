//! Logs whose lines carry a time and a stream: those of the kubelet and of Docker's `json-file`, which nerdctl writes too.
//!
//! The kubelet's are described in `node/kubelet-cri-logging.md` of Kubernetes' design proposals and read by its
//! `pkg/kubelet/kuberuntime/logs`; the other in `daemon/logger/jsonfilelog` of Docker and `pkg/logging/jsonfile` of nerdctl.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use chrono::{DateTime, Utc};

use super::Lines;

/// How long a line of a log may be to be read as a record: 16 MiB.
const LINE: usize = 16 << 20;

/// How much of a line is kept while its end has not come: 1 MiB.
const PART: usize = 1 << 20;

/// How far a line is read to see whether it is whole: a time, a stream and a tag.
const HEAD: usize = 128;

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The text alone.
    Plain,
    /// `2026-01-02T03:04:05.678901234Z stdout F text`; with `P` the line goes on in the next.
    Cri,
    /// `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}`.
    Json,
}

impl Form {
    /// Returns whether the line that begins here ends a line of the text.
    pub(super) fn ends_at(self, file: &File, start: u64) -> io::Result<bool> {
        if self != Self::Cri {
            return Ok(true);
        }
        let mut head = [0; HEAD];
        let count = file.read_at(&mut head, start)?;
        Ok(cri(&head[..count]).is_none_or(|record| record.ends))
    }
}

/// One line of such a log.
#[derive(Debug)]
struct Record<'a> {
    time: DateTime<Utc>,
    error: bool,
    ends: bool,
    text: std::borrow::Cow<'a, [u8]>,
}

fn cri(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = time(std::str::from_utf8(parts.next()?).ok()?)?;
    let error = stream(parts.next()?)?;
    // There may be more tags behind a colon.
    let ends = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record { time, error, ends, text: parts.next().unwrap_or_default().into() })
}

fn json(line: &[u8]) -> Option<Record<'static>> {
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        log: String,
        #[serde(default)]
        stream: String,
        time: String,
    }
    let entry: Entry = serde_json::from_slice(line).ok()?;
    let mut text = entry.log.into_bytes();
    let ends = text.last() == Some(&b'\n');
    text.truncate(text.len() - usize::from(ends));
    Some(Record { time: time(&entry.time)?, error: entry.stream == "stderr", ends, text: text.into() })
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

fn stream(name: &[u8]) -> Option<bool> {
    match name {
        b"stdout" => Some(false),
        b"stderr" => Some(true),
        _ => None,
    }
}

/// Reads the text out of a log that comes in pieces.
#[derive(Debug)]
pub(super) struct Decoder {
    form: Form,
    since: Option<DateTime<Utc>>,
    lines: Lines,
    /// Lines of the output and of the error output whose end has not come.
    parts: [Vec<u8>; 2],
}

impl Decoder {
    /// Makes one that leaves out what is older.
    pub(super) fn new(form: Form, since: Option<DateTime<Utc>>) -> Self {
        Self { form, since, lines: Lines::up_to(LINE), parts: Default::default() }
    }

    /// Takes more of the log, and adds the text that is whole.
    pub(super) fn add(&mut self, more: &[u8], text: &mut Vec<u8>) {
        if self.form == Form::Plain {
            text.extend_from_slice(more);
            return;
        }
        let Self { form, since, lines, parts } = self;
        lines.add(more, |line| take(*form, *since, parts, line, text));
    }

    /// Adds what is left when nothing more comes.
    pub(super) fn end(&mut self, text: &mut Vec<u8>) {
        let Self { form, since, lines, parts } = self;
        std::mem::take(lines).end(|line| take(*form, *since, parts, line, text));
        for part in parts {
            text.append(part);
        }
    }
}

fn take(form: Form, since: Option<DateTime<Utc>>, parts: &mut [Vec<u8>; 2], line: &[u8], text: &mut Vec<u8>) {
    let record = match form {
        Form::Cri => cri(line),
        _ => json(line),
    };
    let Some(record) = record else {
        // Whatever it is, somebody wrote it; but when is not known.
        if since.is_none() && !line.is_empty() {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        return;
    };
    if since.is_some_and(|since| record.time < since) {
        return;
    }
    let part = &mut parts[usize::from(record.error)];
    part.extend_from_slice(&record.text);
    if record.ends {
        part.push(b'\n');
    }
    if record.ends || part.len() > PART {
        text.append(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, since: Option<&str>, pieces: &[&str]) -> String {
        let mut decoder = Decoder::new(form, since.and_then(time));
        let mut text = Vec::new();
        pieces.iter().for_each(|piece| decoder.add(piece.as_bytes(), &mut text));
        decoder.end(&mut text);
        String::from_utf8(text).unwrap()
    }

    /// The lines of the proposal, and what a runtime makes of long ones.
    #[test]
    fn lines_of_the_kubelet_are_joined_by_stream() {
        let log = "2016-10-06T00:17:09.669794202Z stdout F log content 1\n\
                   2016-10-06T00:17:09.669794203Z stderr F log content 2\n\
                   2016-10-06T00:17:10.113242941Z stdout P a\n\
                   2016-10-06T00:17:10.113242941Z stderr P:more x\n\
                   2016-10-06T00:17:10.113242942Z stdout F  b\n\
                   2016-10-06T00:17:10.2Z stdout F \n\
                   2016-10-06T00:17:10.3+02:00 stdout F\n\
                   no record\n\
                   2016-10-06T00:17:11Z stderr F y\n\
                   2016-10-06T00:17:12Z stdout P open";
        let text = "log content 1\nlog content 2\na b\n\n\nno record\nxy\nopen";
        assert_eq!(read(Form::Cri, None, &[log]), text);
        let bytes: Vec<&str> = log.split_inclusive(|_: char| true).collect();
        assert_eq!(read(Form::Cri, None, &bytes), text);
        assert_eq!(read(Form::Cri, Some("2016-10-06T00:17:11Z"), &[log]), "y\nopen");
    }

    #[test]
    fn lines_of_json_file_are_read() {
        let log = "{\"log\":\"one \\u003c\\n\",\"stream\":\"stdout\",\"time\":\"2020-12-11T20:29:41.939902251Z\"}\n\
                   {\"log\":\"two\\r\\n\",\"stream\":\"stderr\",\"attrs\":{\"a\":\"b\"},\"time\":\"2020-12-11T20:29:42Z\"}\n\
                   {\"log\":\"long \",\"stream\":\"stdout\",\"time\":\"2020-12-11T20:29:43Z\"}\n\
                   {\"log\":\"line\\n\",\"stream\":\"stdout\",\"time\":\"2020-12-11T20:29:43Z\"}\n\
                   {\"log\":\"to";
        assert_eq!(read(Form::Json, None, &[log]), "one <\ntwo\r\nlong line\n{\"log\":\"to\n");
        assert_eq!(read(Form::Json, Some("2020-12-11T20:29:42Z"), &[log]), "two\r\nlong line\n");
    }
}
