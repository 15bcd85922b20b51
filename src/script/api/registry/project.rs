//! The projects of a Harbor: `projects`, `project`, `create_project`, `delete_project` of a `Registry`.

use std::sync::Arc;

use rhai::Dynamic;

use super::object::RegistryObject;
use crate::grant::Access;
use crate::ops;
use crate::registry::{self, NewProject, Project, Quota};
use crate::script::call::{Call, Session};
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::time::Time;
use crate::script::value::Name;

/// A project, and how its Harbor is reached.
#[derive(Clone)]
struct ProjectObject {
    host: String,
    project: Project,
    reach: Arc<registry::Options>,
}

impl ProjectObject {
    fn quota(&self, session: &Session) -> Result<Option<Quota>> {
        if let Some(quota) = self.project.quota {
            return Ok(Some(quota));
        }
        let ctx = session.context();
        session.wait(&ctx, ops::registry::quota(&ctx, &self.host, &self.project.name, &self.reach))
    }
}

impl Object for ProjectObject {
    const TYPE: &'static str = "Project";
    const DOC: &'static str = "A project of a Harbor. As text, and where a name is wanted, it is `HOST/NAME`.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ProjectObject>;
        const FIELDS: &[F] = &[
            F::column("registry", "string", "The Harbor, `HOST[:PORT]`.", |p, _| Ok(p.host.clone().into())),
            F::column("name", "string", "The name, with which those of its repositories begin.", |p, _| {
                Ok(p.project.name.clone().into())
            }),
            F::column("is_public", "bool", "Whether everybody may pull from it.", |p, _| {
                Ok(p.project.public.map_or(Dynamic::UNIT, Dynamic::from))
            }),
            F::column("repositories", "int", "How many repositories it has.", |p, _| {
                Ok(p.project.repositories.map_or(Dynamic::UNIT, bytes))
            }),
            F::column("created", "Time", "When it was made.", |p, _| {
                Ok(p.project.created.map_or(Dynamic::UNIT, |time| Dynamic::from(Time(time))))
            })
            .unit(Unit::Time),
            F::on_demand(
                "quota",
                "int",
                "How many bytes it may hold: -1 for any number, `()` where Harbor does not tell this user.",
                |p, session| {
                    let quota = p.quota(session)?;
                    Ok(quota.map_or(Dynamic::UNIT, |quota| quota.limit.map_or(Dynamic::from(-1_i64), bytes)))
                },
            )
            .unit(Unit::Bytes),
            F::on_demand(
                "used",
                "int",
                "How many bytes it holds, `()` where Harbor does not tell this user.",
                |p, session| Ok(p.quota(session)?.map_or(Dynamic::UNIT, |quota| bytes(quota.used))),
            )
            .unit(Unit::Bytes),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(format!("{}/{}", self.host, self.project.name))
    }
}

fn bytes(number: u64) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

impl RegistryObject {
    fn wrap(&self, project: Project) -> ProjectObject {
        ProjectObject { host: self.address.host().to_owned(), project, reach: Arc::clone(&self.reach) }
    }
}

const PROJECTS: Spec = Spec {
    name: "projects",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the projects of a Harbor that the user may see, sorted by name; without a login the public ones.\n\nThis and the other functions for projects use Harbor's own interface. A registry that is no Harbor is an error that says so, and is sent no password.",
    examples: &[
        Example::gives("registry(HARBOR).projects().some(|p| p.name == \"library\")", "true"),
        Example::runs("for project in registry(HARBOR).projects() { print(`${project}: ${show_size(project.used)}`) }"),
    ],
};

fn projects(call: &Call<'_>, registry: RegistryObject) -> Result<Vec<ProjectObject>> {
    let found = call.wait(ops::registry::projects(call.ctx(), registry.address.host(), &registry.reach))?;
    Ok(found.into_iter().map(|project| registry.wrap(project)).collect())
}

const PROJECT: Spec = Spec {
    name: "project",
    on: On::Method,
    params: &[Param::new("name")],
    options: &[],
    access: Access::Read,
    doc: "Looks up a project of a Harbor. That there is none is an error of kind `not_found`.",
    examples: &[
        Example::gives("registry(HARBOR).project(\"library\").is_public", "true"),
        Example::gives(
            "let hint = \"\"; try { registry(HARBOR).project(\"libary\") } catch (e) { hint = e.hint } hint",
            "\"did you mean library?\"",
        ),
    ],
};

fn project(call: &Call<'_>, registry: RegistryObject, name: Name) -> Result<ProjectObject> {
    let host = registry.address.host();
    let found = call.wait(ops::registry::project(call.ctx(), host, &name.0, &registry.reach))?;
    Ok(registry.wrap(found))
}

const CREATE_PROJECT: Spec = Spec {
    name: "create_project",
    on: On::Method,
    params: &[Param::new("name")],
    options: &[
        Opt::new("is_public", "bool", "Whether everybody may pull from it. Default false."),
        Opt::new(
            "quota",
            "string or int",
            "How much it may hold, as a size such as `10GiB` or bytes; -1 is any number. Harbor lets only administrators say so. Default: what Harbor is set to give.",
        ),
        Opt::new("exists_ok", "bool", "Whether a project that exists is returned as it is. Default false, an error."),
    ],
    access: Access::Write,
    doc: "Makes a project in a Harbor, where a push needs one that exists. Needs `write` access to `HOST/NAME`.",
    examples: &[
        Example::gives("registry(HARBOR).create_project(\"shop\", #{ quota: \"10GiB\" }).quota", "10737418240"),
        Example::gives(
            "let harbor = registry(HARBOR);\nlet shop = harbor.create_project(\"shop\", #{ exists_ok: true });\ncopy(`${REGISTRY}/example/box:1`, `${shop}/box:1`).target.ends_with(\"/shop/box:1\")",
            "true",
        ),
    ],
};

fn create_project(call: &Call<'_>, registry: RegistryObject, name: Name, options: Options) -> Result<ProjectObject> {
    let quota = match options.any("quota").map(|value| value.as_int()) {
        Some(Ok(-1)) => Some(None),
        _ => options.size("quota")?.map(Some),
    };
    let wanted = NewProject { name: name.0, public: options.flag("is_public")?, quota };
    let (host, reach) = (registry.address.host(), (*registry.reach).clone());
    let created = call.run(ops::registry::CreateProject::new(host, wanted, options.flag("exists_ok")?, reach))?;
    Ok(registry.wrap(created))
}

const DELETE_PROJECT: Spec = Spec {
    name: "delete_project",
    on: On::Method,
    params: &[Param::new("name")],
    options: &[],
    access: Access::Delete,
    doc: "Deletes a project of a Harbor. One that still has repositories is not deleted. Needs `delete` access to `HOST/NAME`.",
    examples: &[Example::runs(
        "let harbor = registry(HARBOR); harbor.create_project(\"old\"); harbor.delete_project(\"old\")",
    )],
};

fn delete_project(call: &Call<'_>, registry: RegistryObject, name: Name) -> Result<()> {
    let (host, reach) = (registry.address.host(), (*registry.reach).clone());
    call.run(ops::registry::DeleteProject::new(host, &name.0, reach))
}

/// Registers the objects and methods.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<ProjectObject>();
    catalog.add(&PROJECTS, projects);
    catalog.add(&PROJECT, project);
    catalog.add(&CREATE_PROJECT, create_project);
    catalog.add(&DELETE_PROJECT, delete_project);
}
