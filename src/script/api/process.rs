//! The `Process` object: a command that has ended.

use rhai::Dynamic;

use crate::ops::container::Finished;
use crate::script::catalog::Catalog;
use crate::script::object::{Field, Object, Unit};

/// A process that has ended, with what it wrote.
#[derive(Clone)]
pub struct ProcessObject(pub Finished);

impl ProcessObject {
    /// Makes one of a process whose output went to the user's terminal, or to the program's own output.
    #[must_use]
    pub fn seated(container: &str, code: u32) -> Self {
        Self(Finished { container: container.to_owned(), code, ..Finished::default() })
    }
}

impl Object for ProcessObject {
    const TYPE: &'static str = "Process";
    const DOC: &'static str = "A command that has ended: its exit code and what it wrote.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ProcessObject>;
        const FIELDS: &[F] = &[
            F::column("code", "int", "The exit status; 128 and the signal's number when a signal ended it.", |p, _| {
                Ok(i64::from(p.0.code).into())
            }),
            F::column("stdout", "string", "What it wrote to its output.", |p, _| Ok(p.0.output.stdout.text().into())),
            F::column("stderr", "string", "What it wrote to its error output.", |p, _| {
                Ok(p.0.output.stderr.text().into())
            }),
            F::column("duration", "float", "How long it ran, in seconds.", |p, _| {
                Ok(p.0.duration.as_secs_f64().into())
            })
            .unit(Unit::Seconds),
            F::field("container", "string", "The id of the container that it ran in.", |p, _| {
                Ok(p.0.container.clone().into())
            }),
            F::field("truncated", "bool", "Whether it wrote more than was kept.", |p, _| {
                Ok(Dynamic::from(p.0.output.stdout.dropped + p.0.output.stderr.dropped > 0))
            }),
        ];
        FIELDS
    }
}

/// Registers the object.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<ProcessObject>();
}
