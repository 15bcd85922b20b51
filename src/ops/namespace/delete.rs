//! `namespaces::delete`: removes an empty namespace, or says what is still in it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{get, place, target};
use crate::containerd::namespaces::Namespace;
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::ops::{Context, Effect, Error, Operation, Plan, Result, container, image};

/// Where cgroups are: those of version 2, and below it a folder for each controller of version 1.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Removes a namespace that has no images and no containers.
#[derive(Debug)]
pub struct Delete {
    name: String,
    /// Whether the cgroup goes too that runc makes for the containers of a namespace.
    cgroup: bool,
}

impl Delete {
    /// Removes this namespace, and its cgroup on this host where that is wanted.
    #[must_use]
    pub fn new(name: &str, cgroup: bool) -> Self {
        Self { name: name.to_owned(), cgroup }
    }

    fn full(&self, state: String) -> Error {
        let name = &self.name;
        let cure = format!(
            "namespaces::purge({name:?}, #{{ plan: true }}) says what is in it, and without plan removes it with that"
        );
        Error::Conflict { what: "namespace", name: name.clone(), state, cure: Some(cure) }
    }

    /// Adds the steps that remove it, empty as it is by then.
    pub(super) fn steps(&self, ctx: &Context, mut plan: Plan<()>) -> Plan<()> {
        for folder in self.cgroups() {
            let folder = folder.display().to_string();
            plan = plan.step(Access::Host, folder.clone(), format!("remove cgroup {folder}"));
        }
        plan.step(Access::Delete, target(&self.name), format!("delete namespace {}", self.name)).effect(Effect::gone::<
            Namespace,
        >(
            &place(ctx),
            &self.name,
        ))
    }

    /// Finds the folders of its cgroup, where that is to go too. Blocks.
    fn cgroups(&self) -> Vec<PathBuf> {
        if !self.cgroup {
            return Vec::new();
        }
        let root = Path::new(CGROUPS);
        let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        // Some controllers are links to the folder that they share with others.
        let folders = controllers.filter(|folder| !folder.is_symlink()).chain([root.to_owned()]);
        let mut found: Vec<PathBuf> = folders.map(|folder| folder.join(&self.name)).collect();
        found.retain(|folder| folder.join("cgroup.procs").exists());
        found.sort();
        found
    }
}

#[async_trait]
impl Operation for Delete {
    type Output = ();
    const NAME: &'static str = "delete namespace";

    fn subject(&self) -> String {
        self.name.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        get(ctx, &self.name).await?;
        let inside = ctx.in_namespace(&self.name);
        let images = image::list(&inside, &[]).await?.len();
        let containers = container::list(&inside, &[]).await?.len();
        if images + containers > 0 {
            return Err(self.full(format!("still has {images} images and {containers} containers")));
        }
        Ok(self.steps(ctx, Plan::new(())))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        for folder in self.cgroups() {
            remove(&folder)?;
        }
        match ctx.client().await?.namespaces().delete(&self.name).await {
            // "namespace "x" must be empty, but it still has blobs, snapshots on "overlayfs" snapshotter"
            Err(error) if error.kind() == Kind::Conflict => {
                let text = error.to_string();
                let rest = text.split_once("it still has ").map(|(_, rest)| rest.split(": ").next().unwrap_or(rest));
                Err(rest.map_or(error.into(), |rest| self.full(format!("still has {rest}"))))
            }
            answer => {
                answer?;
                // The folder of the logs that were made by themselves; one with other people's logs in it stays.
                let _ = fs::remove_dir(ctx.settings().log_dir.join(&self.name));
                Ok(())
            }
        }
    }
}

/// Removes a cgroup in which nothing is.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            let folder = folder.display();
            Err(Error::Conflict {
                what: "cgroup",
                name: folder.to_string(),
                state: "still has processes or other cgroups in it".to_owned(),
                cure: Some(format!("see what they are: find {folder} -name cgroup.procs -exec cat {{}} +")),
            })
        }
        removed => removed.map_err(Error::file("remove", folder)),
    }
}
