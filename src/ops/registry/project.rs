//! `projects`, `project`, `create_project`, `delete_project`: the projects of a Harbor.

use async_trait::async_trait;

use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::oci::store::ImageSink;
use crate::oci::{Descriptor, Reference};
use crate::ops::progress::show_size;
use crate::ops::{Context, Effect, Error, Level, Operation, Plan, Result, Seen, error};
use crate::registry::{self, NewProject, Options, Project, Quota, Registry, RegistryStore};

/// The longest name of a project (Harbor, `src/server/v2.0/handler/project.go`).
const MAX_NAME: usize = 255;

/// Lists the projects of a registry that the user may see, sorted by name.
///
/// # Errors
/// Of kind `usage` when it is no Harbor.
pub async fn projects(ctx: &Context, host: &str, options: &Options) -> Result<Vec<Project>> {
    let mut projects = client(ctx, host, options).projects().await?;
    ctx.overlay().amend(host, &mut projects, |project| &project.name);
    Ok(projects)
}

/// Looks a project up.
///
/// # Errors
/// [`Error::NotFound`] with the nearest name that exists.
pub async fn project(ctx: &Context, host: &str, name: &str, options: &Options) -> Result<Project> {
    check_name(name)?;
    match ctx.overlay().get(host, name) {
        Seen::As(project) => return Ok(project),
        Seen::Gone => return Err(missing(ctx, host, name, options).await),
        Seen::Unknown => {}
    }
    match client(ctx, host, options).project(name).await {
        Err(registry::Error::NotFound { .. }) => Err(missing(ctx, host, name, options).await),
        other => Ok(other?),
    }
}

/// Asks what a project may hold, and holds; nothing where Harbor does not tell this user.
///
/// # Errors
/// When there is no such project.
pub async fn quota(ctx: &Context, host: &str, name: &str, options: &Options) -> Result<Option<Quota>> {
    Ok(client(ctx, host, options).quota(name).await?)
}

/// Finds what a registry has under a name. A project that a dry run would have made holds nothing yet.
pub(crate) async fn held(ctx: &Context, reference: &Reference, options: &Options) -> Result<Option<Descriptor>> {
    let project = reference.repository().split('/').next().unwrap_or_default();
    if let Seen::As(Project { .. }) = ctx.overlay().get(reference.registry(), project) {
        return Ok(None);
    }
    let store = RegistryStore::sink(ctx.registry(), reference, ctx.grant(), options);
    Ok(store.current().await?)
}

async fn missing(ctx: &Context, host: &str, name: &str, options: &Options) -> Error {
    let existing = projects(ctx, host, options).await.unwrap_or_default();
    let nearest = error::nearest(name, existing.iter().map(|project| project.name.as_str()));
    let cure = Some(format!("make it with registry(\"{host}\").create_project(\"{name}\")"));
    Error::NotFound { what: "project", name: format!("{host}/{name}"), nearest, cure }
}

fn client(ctx: &Context, host: &str, options: &Options) -> Registry {
    ctx.registry().registry(host, ctx.grant(), options)
}

/// Refuses what no project can be called.
fn check_name(name: &str) -> Result<()> {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.chars().all(|c| is_end(c) || matches!(c, '.' | '_' | '-'))
        && name.starts_with(is_end)
        && name.ends_with(is_end);
    if fits {
        return Ok(());
    }
    Err(Error::Argument {
        name: format!("project '{}'", crate::oci::excerpt(name)),
        problem: "is no name that Harbor takes".into(),
        cure: Some(format!(
            "write 1 to {MAX_NAME} lower-case letters, digits, '.', '_' and '-', with a letter or digit at both ends"
        )),
    })
}

/// Makes a project.
#[derive(Debug)]
pub struct CreateProject {
    host: String,
    wanted: NewProject,
    exists_ok: bool,
    options: Options,
    /// The project, when the plan found that it exists and that this is well.
    found: Option<Project>,
}

impl CreateProject {
    /// Makes a project of the Harbor at a host. With `exists_ok` one that exists stays as it is and is returned.
    #[must_use]
    pub fn new(host: &str, wanted: NewProject, exists_ok: bool, options: Options) -> Self {
        Self { host: host.to_owned(), wanted, exists_ok, options, found: None }
    }

    fn target(&self) -> String {
        format!("{}/{}", self.host, self.wanted.name)
    }

    /// Returns what can be said of the project without asking.
    fn as_wanted(&self) -> Project {
        let quota = self.wanted.quota.map(|limit| Quota { limit, used: 0 });
        let (name, public) = (self.wanted.name.clone(), Some(self.wanted.public));
        Project { name, public, repositories: Some(0), created: None, quota }
    }

    fn taken(&self) -> Error {
        let cure = Some("#{ exists_ok: true } takes it as it is".to_owned());
        Error::AlreadyExists { what: "project", name: self.target(), cure }
    }

    /// Looks at a project that exists; of one that this user may not look at, the name is all there is.
    async fn look(&self, ctx: &Context) -> Result<Project> {
        let client = client(ctx, &self.host, &self.options);
        let name = &self.wanted.name;
        match client.project(name).await {
            Err(error) if error.kind() == Kind::Unauthorized => {
                Ok(Project { name: name.clone(), public: None, repositories: None, created: None, quota: None })
            }
            other => Ok(other?),
        }
    }

    /// Returns the project that was just made, and says so when Harbor gave it another quota.
    async fn made(&self, ctx: &Context) -> Project {
        let Ok(project) = self.look(ctx).await else { return self.as_wanted() };
        let Some(wanted) = self.wanted.quota else { return project };
        let Ok(Some(quota)) = quota(ctx, &self.host, &self.wanted.name, &self.options).await else { return project };
        if quota.limit != wanted {
            let show = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), show_size);
            let text = format!(
                "project {} has the quota {}, not {}: Harbor lets only its administrators set one",
                self.target(),
                show(quota.limit),
                show(wanted)
            );
            ctx.note(Level::Warn, &text);
        }
        Project { quota: Some(quota), ..project }
    }
}

#[async_trait]
impl Operation for CreateProject {
    type Output = Project;
    const NAME: &'static str = "create_project";

    fn subject(&self) -> String {
        self.target()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Project>> {
        let name = self.wanted.name.clone();
        check_name(&name)?;
        let found = match ctx.overlay().get(&self.host, &name) {
            Seen::As(project) => Some(project),
            Seen::Gone => None,
            Seen::Unknown => match client(ctx, &self.host, &self.options).has_project(&name).await? {
                true => Some(if self.exists_ok { self.look(ctx).await? } else { self.as_wanted() }),
                false => None,
            },
        };
        if let Some(found) = found {
            if !self.exists_ok {
                return Err(self.taken());
            }
            self.found = Some(found.clone());
            return Ok(Plan::new(found));
        }
        let preview = self.as_wanted();
        let seen_by = if self.wanted.public { "public" } else { "private" };
        let quota = match self.wanted.quota {
            Some(Some(bytes)) => format!(", quota {}", show_size(bytes)),
            Some(None) => ", no quota".to_owned(),
            None => String::new(),
        };
        let action = format!("create {seen_by} project {}{quota}", self.target());
        let effect = Effect::exists(&self.host, &name, preview.clone());
        Ok(Plan::new(preview).step(Access::Write, self.target(), action).effect(effect))
    }

    async fn apply(mut self, ctx: &Context) -> Result<Project> {
        if let Some(found) = self.found.take() {
            return Ok(found);
        }
        match client(ctx, &self.host, &self.options).create_project(&self.wanted).await {
            Ok(()) => Ok(self.made(ctx).await),
            // Somebody else was faster.
            Err(error) if error.kind() == Kind::Conflict && self.exists_ok => self.look(ctx).await,
            Err(error) if error.kind() == Kind::Conflict => Err(self.taken()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Deletes an empty project.
#[derive(Debug)]
pub struct DeleteProject {
    host: String,
    name: String,
    options: Options,
}

impl DeleteProject {
    /// Deletes a project of the Harbor at a host.
    #[must_use]
    pub fn new(host: &str, name: &str, options: Options) -> Self {
        Self { host: host.to_owned(), name: name.to_owned(), options }
    }

    fn target(&self) -> String {
        format!("{}/{}", self.host, self.name)
    }

    fn full(&self, state: String) -> Error {
        let cure = Some("delete its repositories first, in Harbor".to_owned());
        Error::Conflict { what: "project", name: self.target(), state, cure }
    }
}

#[async_trait]
impl Operation for DeleteProject {
    type Output = ();
    const NAME: &'static str = "delete_project";

    fn subject(&self) -> String {
        self.target()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let project = project(ctx, &self.host, &self.name, &self.options).await?;
        if let Some(count) = project.repositories.filter(|count| *count > 0) {
            return Err(
                self.full(format!("still has {count} {}", if count == 1 { "repository" } else { "repositories" }))
            );
        }
        Ok(Plan::new(())
            .step(Access::Delete, self.target(), format!("delete project {}", self.target()))
            .effect(Effect::gone::<Project>(&self.host, &self.name)))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        match client(ctx, &self.host, &self.options).delete_project(&self.name).await {
            // What Harbor says of repositories, and of other things that a project holds.
            Err(registry::Error::Answer(answer)) if answer.status.as_u16() == 412 => {
                Err(self.full(format!("cannot be deleted: {answer}")))
            }
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_harbor_takes() {
        for name in ["shop", "a", "0", "shop-2.x_y", &"a".repeat(255)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Shop", "-shop", "shop.", "a/b", "a b", "..", "ä", "a?x=1", &"a".repeat(256)] {
            let error = check_name(name).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{name}");
            assert!(error.hint().unwrap().contains("1 to 255"), "{name}");
        }
    }
}
