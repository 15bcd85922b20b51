//! The `Container` object.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rhai::{Dynamic, Map};

use crate::containerd::containers::Container;
use crate::containerd::tasks::{Status, Task};
use crate::ops::{self, Place};
use crate::script::api::task::TaskObject;
use crate::script::call::Session;
use crate::script::catalog::Catalog;
use crate::script::convert;
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::time::Time;

/// How long the tasks that were read for a whole list are taken as what they are.
const FRESH: Duration = Duration::from_secs(1);

/// A container record, with where it is and the list it came in.
#[derive(Clone)]
pub struct ContainerObject {
    record: Arc<Container>,
    place: Place,
    siblings: Arc<Siblings>,
}

/// The containers that came in one list: their tasks are read in one request, and again when that is a while ago.
#[derive(Default)]
struct Siblings {
    count: usize,
    tasks: Mutex<Option<(Instant, HashMap<String, Task>)>>,
}

impl ContainerObject {
    /// Wraps one record.
    #[must_use]
    pub fn new(record: Container, place: &Place) -> Self {
        Self { record: Arc::new(record), place: place.clone(), siblings: Arc::default() }
    }

    /// Wraps a list of records.
    #[must_use]
    pub fn list(records: Vec<Container>, place: &Place) -> Vec<Self> {
        let siblings = Arc::new(Siblings { count: records.len(), tasks: Mutex::default() });
        let wrap = |record| Self { record: Arc::new(record), place: place.clone(), siblings: Arc::clone(&siblings) };
        records.into_iter().map(wrap).collect()
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Returns where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Forgets what was read of its task, since that is about to change.
    pub(super) fn touch(&self) {
        *self.siblings.tasks.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn task(&self, session: &Session) -> Result<Option<Task>> {
        let ctx = session.context().at(&self.place);
        if self.siblings.count < 2 {
            return session.wait(&ctx, ops::container::status(&ctx, self.id()));
        }
        let known = |now: Instant| {
            let tasks = self.siblings.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.as_ref().filter(|(read, _)| now - *read < FRESH).map(|(_, tasks)| tasks.get(self.id()).cloned())
        };
        if let Some(task) = known(Instant::now()) {
            return Ok(task);
        }
        let tasks = session.wait(&ctx, ops::task::list(&ctx))?;
        let tasks: HashMap<String, Task> = tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
        let task = tasks.get(self.id()).cloned();
        *self.siblings.tasks.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), tasks));
        Ok(task)
    }
}

impl Object for ContainerObject {
    const TYPE: &'static str = "Container";
    const DOC: &'static str =
        "A container: what a task is started from. Its task and status are asked for anew whenever they are read.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ContainerObject>;
        const FIELDS: &[F] = &[
            F::column("id", "string", "The id.", |c, _| Ok(c.record.id.clone().into())),
            F::column("image", "string", "The name of the image that it was made from.", |c, _| {
                Ok(c.record.image.clone().into())
            }),
            F::column(
                "status",
                "string",
                "What its task does: `running`, `paused`, `stopped`; `created` without a task.",
                |c, session| Ok(c.task(session)?.map_or(Status::Created, |task| task.status).as_str().into()),
            ),
            F::column("created", "Time", "When the record was made.", |c, _| {
                Ok(Dynamic::from(Time(c.record.created_at)))
            })
            .unit(Unit::Time),
            F::on_demand("task", "Task", "Its task, or `()` when it was never started.", |c, session| {
                Ok(c.task(session)?.map_or(Dynamic::UNIT, |task| Dynamic::from(TaskObject(task))))
            }),
            F::field("updated", "Time", "When the record was last changed.", |c, _| {
                Ok(Dynamic::from(Time(c.record.updated_at)))
            })
            .unit(Unit::Time),
            F::field("labels", "map", "The labels.", |c, _| {
                Ok(c.record.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
            F::field("runtime", "string", "What runs it, such as `io.containerd.runc.v2`.", |c, _| {
                Ok(c.record.runtime.name.clone().into())
            }),
            F::field("snapshotter", "string", "The snapshotter of its root filesystem.", |c, _| {
                Ok(c.record.snapshotter.clone().into())
            }),
            F::field("snapshot_key", "string", "The key of its root filesystem's snapshot.", |c, _| {
                Ok(c.record.snapshot_key.clone().into())
            }),
            F::on_demand("addresses", "array", "Its addresses in the network that CNI gave it.", |c, session| {
                let ctx = session.context().at(&c.place);
                let now = session.wait(&ctx, ops::container::get(&ctx, c.id()))?;
                let addresses = ops::container::addresses(&now).into_iter().map(Dynamic::from);
                Ok(addresses.collect::<rhai::Array>().into())
            }),
            F::on_demand("record", "map", "The whole record, in the words of `ctr containers info`.", |c, _| {
                Ok(convert::from_json(c.record.as_ctr()))
            }),
            F::on_demand("spec", "map", "The runtime spec, as `ctr containers info --spec` shows it.", |c, _| {
                let spec = c.record.spec.as_ref().and_then(|spec| serde_json::to_value(spec).ok());
                Ok(spec.map_or(Dynamic::UNIT, convert::from_json))
            }),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.record.id.clone())
    }
}

pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<ContainerObject>();
}
