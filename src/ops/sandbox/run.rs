//! `sandboxes::run`: makes a sandbox and starts it.

use async_trait::async_trait;
use serde_json::Value;

use super::{CONTROLLERS, Found, lacking, list};
use crate::containerd::containers::DEFAULT_RUNTIME;
use crate::containerd::sandboxes::{SHIM, Sandbox, Status};
use crate::containerd::{self, Labels, identifier};
use crate::grant::Access;
use crate::oci::Spec;
use crate::oci::spec::{cgroup_reach, default_spec, host_reach, in_own_cgroup};
use crate::ops::undo::Undo;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// How a sandbox is made.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Its runtime spec; none for the one of a container without privileges.
    pub spec: Option<Value>,
    /// What runs it; none for runc.
    pub runtime: Option<String>,
    /// The controller of the daemon that it belongs to; none for its shim's.
    pub sandboxer: Option<String>,
    /// Its labels.
    pub labels: Labels,
}

/// Makes a sandbox and starts it.
#[derive(Debug)]
pub struct Run {
    id: String,
    options: RunOptions,
}

impl Run {
    /// Makes a sandbox of this id.
    #[must_use]
    pub fn new(id: &str, options: RunOptions) -> Self {
        Self { id: id.to_owned(), options }
    }

    /// Returns the runtime spec: what is not understood of one that was given stays out of it.
    fn spec(&self, ctx: &Context) -> Result<Spec> {
        let Some(spec) = &self.options.spec else { return Ok(default_spec(ctx.namespace(), &self.id)) };
        let spec: Spec = serde_json::from_value(spec.clone())
            .map_err(|error| Error::argument("option 'spec'", format!("is no runtime spec: {error}")))?;
        Ok(in_own_cgroup(spec, ctx.namespace(), &self.id))
    }

    fn record(&self, ctx: &Context) -> Result<Sandbox> {
        let spec = serde_json::to_value(self.spec(ctx)?)
            .map_err(|error| Error::argument("option 'spec'", format!("cannot be written: {error}")))?;
        Ok(Sandbox {
            id: self.id.clone(),
            runtime: self.options.runtime.clone().unwrap_or_else(|| DEFAULT_RUNTIME.to_owned()),
            sandboxer: self.options.sandboxer.clone().unwrap_or_else(|| SHIM.to_owned()),
            labels: self.options.labels.clone(),
            spec: Some(spec),
            ..Sandbox::default()
        })
    }

    /// Says why the sandbox needs access to the host, if it does.
    fn reach(&self, ctx: &Context) -> Result<Option<&'static str>> {
        if self.options.runtime.as_ref().is_some_and(|runtime| !runtime.starts_with("io.containerd.")) {
            return Ok(Some("is run by a program of the host"));
        }
        let spec = self.spec(ctx)?;
        Ok(host_reach(&spec).or_else(|| cgroup_reach(&spec, ctx.namespace(), &self.id)))
    }
}

#[async_trait]
impl Operation for Run {
    type Output = Found;
    const NAME: &'static str = "run sandbox";

    fn subject(&self) -> String {
        self.id.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Found>> {
        identifier::check("sandbox", &self.id)?;
        let reach = self.reach(ctx)?;
        if list(ctx, &[]).await?.iter().any(|found| found.sandbox.id == self.id) {
            return Err(Error::AlreadyExists {
                what: "sandbox",
                name: self.id.clone(),
                cure: Some(format!("sandboxes::delete(\"{}\") removes it", self.id)),
            });
        }
        if let Some(error) = lacking(ctx, CONTROLLERS, "controllers of sandboxes").await? {
            return Err(error);
        }
        let sandbox = self.record(ctx)?;
        let runtime = sandbox.runtime.clone();
        let status = Status { state: String::new(), pid: 0 };
        let preview = Found { sandbox: sandbox.clone(), status: Some(status) };
        let mut plan = Plan::new(preview).step(
            Access::Run,
            ctx.target(),
            format!("create and start sandbox {} with {runtime}", self.id),
        );
        if let Some(reason) = reach {
            plan =
                plan.step(Access::Host, ctx.target(), format!("let sandbox {} reach the host: it {reason}", self.id));
        }
        Ok(plan.effect(Effect::exists(&ctx.place_name(), &self.id, sandbox)))
    }

    async fn apply(self, ctx: &Context) -> Result<Found> {
        let client = ctx.client().await?;
        let record = self.record(ctx)?;
        let mut undo = Undo::new(ctx.debts());
        let (undoing, id) = (client.undoing().sandboxes(), self.id.clone());
        let back = async move { undoing.delete(&id).await };
        let (sandboxes, wanted) = (client.sandboxes(), record.clone());
        let step = async move { sandboxes.create(&wanted).await };
        let sandbox = undo.step(format!("the record of sandbox {}", self.id), step, back).await??;
        let (undoing, left) = (client.undoing().sandboxes(), record.clone());
        undo.push(format!("sandbox {}", left.id), async move {
            let _ = undoing.stop(&left).await;
            let _ = undoing.shut_down(&left).await;
        });
        let sandboxes = client.sandboxes();
        let started = async {
            sandboxes.prepare(&record).await?;
            sandboxes.start(&record).await
        };
        started.await.map_err(|error| unable(&record, error))?;
        let status = sandboxes.status(&record).await?;
        undo.forget();
        Ok(Found { sandbox, status: Some(status) })
    }
}

/// Says why a runtime could not make a sandbox, where the daemon's words do not.
fn unable(record: &Sandbox, error: containerd::Error) -> Error {
    if error.is_unsupported() {
        return Error::Argument {
            name: format!("runtime {}", record.runtime),
            problem: format!("has no sandboxes: {error}"),
            cure: Some("choose one whose shim serves them: runc's does in containerd 1.7, and no longer in 2.1".into()),
        };
    }
    if error.to_string().contains("file exists") {
        return Error::AlreadyExists {
            what: "the folder of a sandbox",
            name: record.id.clone(),
            cure: Some(
                "choose another id: containerd 1.7 keeps the folder of a sandbox of runc that was deleted".into(),
            ),
        };
    }
    error.into()
}
