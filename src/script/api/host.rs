//! What a script needs beside containerd: its end, time and units, and the `Error` object.

use std::time::Duration;

use chrono::Utc;
use rhai::Dynamic;

use crate::grant::Access;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Param, Spec};
use crate::script::error::{Error, Result, Thrown};
use crate::script::object::{Field, Object};
use crate::script::time::Time;
use crate::script::units;
use crate::script::value::Size;

impl Object for Thrown {
    const TYPE: &'static str = "Error";
    const DOC: &'static str = "What `catch` receives when a call fails.";

    fn fields() -> &'static [Field<Self>] {
        const FIELDS: &[Field<Thrown>] = &[
            Field::column(
                "kind",
                "string",
                "The kind: usage, denied, not_found, already_exists, conflict, unauthorized, unavailable, timeout, integrity, no_space, cancelled or internal.",
                |e, _| Ok(e.kind.as_str().into()),
            ),
            Field::column("message", "string", "What happened, to what.", |e, _| Ok(e.message.clone().into())),
            Field::field("hint", "string", "What to do about it, or `()`.", |e, _| Ok(optional(e.hint.as_ref()))),
            Field::field("operation", "string", "The verb that failed, or `()`.", |e, _| {
                Ok(optional(e.operation.as_ref()))
            }),
            Field::field("subject", "string", "What it was done to, or `()`.", |e, _| Ok(optional(e.subject.as_ref()))),
            Field::field("retryable", "bool", "Whether trying again may help.", |e, _| Ok(e.retryable.into())),
            Field::field(
                "stdout",
                "string",
                "What a command that took longer than its `timeout` had written by then, or `()`.",
                |e, _| Ok(optional(e.stdout.as_ref())),
            ),
            Field::field("stderr", "string", "What it had written to its error output, or `()`.", |e, _| {
                Ok(optional(e.stderr.as_ref()))
            }),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        Some(self.message.clone())
    }
}

fn optional(text: Option<&String>) -> Dynamic {
    text.map_or(Dynamic::UNIT, |text| text.clone().into())
}

const SLEEP: Spec = Spec {
    name: "sleep",
    on: On::Free,
    params: &[Param::new("duration")],
    options: &[],
    access: Access::Read,
    doc: "Waits: seconds as a number, or text such as `\"250ms\"`. Ctrl-C ends it at once.",
    examples: &[Example::runs("sleep(\"10ms\")")],
};

fn sleep(call: &Call<'_>, duration: Duration) -> Result<()> {
    call.wait(async move {
        tokio::time::sleep(duration).await;
        Ok(())
    })
}

const EXIT: Spec = Spec {
    name: "exit",
    on: On::Free,
    params: &[Param::new("status")],
    options: &[],
    access: Access::Read,
    doc: "Ends the script with an exit status from 0 to 255; without one, with 0.",
    examples: &[Example::runs("if args().len() > 99 { exit(1) }")],
};

fn exit(call: &Call<'_>, status: Option<i64>) -> Result<()> {
    let status = status.unwrap_or(0);
    let code = u8::try_from(status).map_err(|_| call.argument("status", format!("{status} is not from 0 to 255")))?;
    call.session().set_exit_status(code.into());
    Err(Error::Exit)
}

const NOW: Spec = Spec {
    name: "now",
    on: On::Free,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Returns the current time.\n\nTimes compare with `<` and `>`; the difference of two is in seconds.",
    examples: &[Example::gives("now() - now() <= 0", "true")],
};

fn now(_call: &Call<'_>) -> Result<Dynamic> {
    Ok(Dynamic::from(Time(Utc::now())))
}

const DURATION: Spec = Spec {
    name: "duration",
    on: On::Free,
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Returns a duration such as `\"1m30s\"` in seconds: an integer when it is whole, else a float.",
    examples: &[Example::gives("duration(\"1m30s\")", "90"), Example::gives("duration(\"250ms\")", "0.25")],
};

fn duration(_call: &Call<'_>, duration: Duration) -> Result<Dynamic> {
    Ok(match i64::try_from(duration.as_secs()) {
        Ok(seconds) if duration.subsec_nanos() == 0 => seconds.into(),
        _ => duration.as_secs_f64().into(),
    })
}

const SIZE: Spec = Spec {
    name: "size",
    on: On::Free,
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Returns a size such as `\"64MiB\"` in bytes.\n\n`KiB`, `MiB`, … and the bare letters are powers of 1024, `kB`, `MB`, … powers of 1000.",
    examples: &[Example::gives("size(\"64MiB\")", "67108864"), Example::gives("size(\"1kB\")", "1000")],
};

fn size(call: &Call<'_>, size: Size) -> Result<i64> {
    i64::try_from(size.0).map_err(|_| call.argument("text", "is larger than 2^63 bytes"))
}

const SHOW_SIZE: Spec = Spec {
    name: "show_size",
    on: On::Free,
    params: &[Param::new("bytes")],
    options: &[],
    access: Access::Read,
    doc: "Returns bytes as people read them, such as `64.0 MiB`.",
    examples: &[Example::gives("show_size(size(\"64MiB\"))", "\"64.0 MiB\"")],
};

fn show_size(_call: &Call<'_>, bytes: Size) -> Result<String> {
    Ok(units::show_size(bytes.0))
}

const TIME: Spec = Spec {
    name: "time",
    on: On::Free,
    params: &[Param::new("text")],
    options: &[],
    access: Access::Read,
    doc: "Returns the time that RFC 3339 text names, such as the `created` of an image's config.",
    examples: &[Example::gives("time(\"2024-05-01T12:00:00Z\") - time(\"2024-05-01T11:00:00Z\")", "3600")],
};

fn time(call: &Call<'_>, text: String) -> Result<Dynamic> {
    let parsed = chrono::DateTime::parse_from_rfc3339(&text);
    let parsed = parsed.map_err(|error| call.argument("text", format!("'{text}' is not a time: {error}")))?;
    Ok(Dynamic::from(Time(parsed.to_utc())))
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<Thrown>();
    catalog.add(&SLEEP, sleep);
    catalog.add(&EXIT, exit);
    catalog.add(&NOW, now);
    catalog.add(&DURATION, duration);
    catalog.add(&SIZE, size);
    catalog.add(&SHOW_SIZE, show_size);
    catalog.add(&TIME, time);
}
