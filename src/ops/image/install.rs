//! `install`: the programs of an image in a folder of this host, as `ctr install` puts them below containerd's `opt`.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tar::{Archive, Entry, EntryType};
use tempfile::TempDir;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::uncompress::MAX_UNPACKED;
use super::{get, image_of};
use crate::containerd::images::Image;
use crate::kind::BoxFailure;
use crate::layout::archive::{Stop, unfold};
use crate::oci::Matcher;
use crate::ops::file::resolve;
use crate::ops::undo::Undo;
use crate::ops::{Context, Error, Operation, Plan, Result};

/// The folders of an image that programs and their libraries are in.
const PROGRAMS: &str = "bin";
const LIBRARIES: &str = "lib";
/// What a layer has in place of a file of an earlier one (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// How an image is installed.
#[derive(Debug, Clone)]
pub struct InstallOptions {
    /// The folder; without it, the one that the daemon keeps for it.
    pub path: Option<PathBuf>,
    /// Whether the libraries are installed too.
    pub libs: bool,
    /// Whether files that are there are replaced.
    pub replace: bool,
    /// Of which platform the files are.
    pub platform: Matcher,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self { path: None, libs: false, replace: false, platform: Matcher::host() }
    }
}

/// Installs an image.
pub struct Install {
    name: String,
    options: InstallOptions,
    found: Option<(Image, PathBuf)>,
}

impl Install {
    /// Puts the files of the image's `bin` into the `bin` of a folder.
    #[must_use]
    pub fn new(name: &str, options: InstallOptions) -> Self {
        Self { name: name.to_owned(), options, found: None }
    }

    async fn find(&self, ctx: &Context) -> Result<(Image, PathBuf)> {
        let image = get(ctx, &self.name).await?;
        let target = match &self.options.path {
            Some(path) => resolve(ctx, path),
            None => opt(ctx).await?,
        };
        Ok((image, target))
    }
}

/// Asks the daemon where it has such programs.
async fn opt(ctx: &Context) -> Result<PathBuf> {
    let plugins = ctx.client().await?.introspection().plugins(&["id==opt".to_owned()]).await?;
    plugins.iter().find_map(|plugin| plugin.exports.get("path")).map(PathBuf::from).ok_or_else(|| Error::Lacking {
        daemon: ctx.place().daemon.endpoint().to_string(),
        what: "folder for programs",
        reason: "its plugin opt is not there".into(),
        cure: "name one: #{ path: \"/opt/containerd\" }".into(),
    })
}

#[async_trait]
impl Operation for Install {
    /// The files, by name.
    type Output = Vec<PathBuf>;
    const NAME: &'static str = "install";

    fn subject(&self) -> String {
        self.name.clone()
    }

    /// What files there are is not known before the layers are read: a dry run returns none.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Vec<PathBuf>>> {
        let (image, target) = self.find(ctx).await?;
        let what = if self.options.libs { "programs and libraries" } else { "programs" };
        let action = format!("install the {what} of {} in {}", image.name, target.display());
        let place = ctx.local(&target);
        self.found = Some((image, target));
        // They keep their owners and modes, wherever it is.
        Ok(Plan::new(Vec::new()).host_path(place, action))
    }

    async fn apply(self, ctx: &Context) -> Result<Vec<PathBuf>> {
        let (image, target) = match &self.found {
            Some(found) => found.clone(),
            None => self.find(ctx).await?,
        };
        let (_, manifest, _) = image_of(ctx, &image, &self.options.platform).await?;
        let client = ctx.client().await?;
        let folders = if self.options.libs { [PROGRAMS, LIBRARIES].as_slice() } else { &[PROGRAMS] };
        let place = target.clone();
        let mut staged = blocking(move || Staged::new(&place, folders)).await?;
        for layer in manifest.layers.iter().filter(|layer| layer.media_type.is_layer()) {
            let stream = client.content().open_to_read(&layer.digest, 0).await?;
            let bridge = SyncIoBridge::new(StreamReader::new(stream.map_err(io::Error::other).boxed()));
            let name: Arc<str> = format!("layer {}", layer.digest).into();
            let cancel = ctx.grant().cancel().clone();
            let taking = blocking(move || staged.take(&name, bridge, &cancel).map(|()| staged));
            // A thread is not ended by dropping what waits for it; what it staged goes with it.
            let mut undo = Undo::new(ctx.debts());
            staged = undo.step(format!("a folder in {}", target.display()), taking, async {}).await??;
            undo.forget();
        }
        let replace = self.options.replace;
        blocking(move || staged.install(replace)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Files on their way, in a folder beside their places. It goes when this is dropped.
struct Staged {
    target: PathBuf,
    folder: TempDir,
    folders: &'static [&'static str],
}

impl Staged {
    fn new(target: &Path, folders: &'static [&'static str]) -> Result<Self> {
        fs::create_dir_all(target).map_err(Error::file("make", target))?;
        let made = tempfile::Builder::new().prefix(".ctrsh-").tempdir_in(target);
        let folder = made.map_err(Error::file("make a folder in", target))?;
        for name in folders {
            fs::create_dir(folder.path().join(name)).map_err(Error::file("write to", target))?;
        }
        Ok(Self { target: target.to_owned(), folder, folders })
    }

    /// Returns where an entry goes; none when it is not directly in one of the folders.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let parts: Option<Vec<&str>> = path
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .map(|part| if let Component::Normal(part) = part { part.to_str() } else { None })
            .collect();
        let [folder, name] = parts?[..] else { return None };
        self.folders.contains(&folder).then(|| self.folder.path().join(folder).join(name))
    }

    /// Takes the files of a layer over those of the layers before.
    fn take(&self, name: &Arc<str>, layer: impl Read + Send + 'static, cancel: &CancellationToken) -> Result<()> {
        let plain = unfold(name, Box::new(layer), MAX_UNPACKED, &Stop::default()).map_err(BoxFailure::from)?;
        let mut archive = Archive::new(plain);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
        for entry in archive.entries().map_err(Error::file("read", Path::new(&**name)))? {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let mut entry = entry.map_err(Error::file("read", Path::new(&**name)))?;
            let path = entry.path().map_err(Error::file("read", Path::new(&**name)))?.into_owned();
            if let Some(place) = self.place(&path) {
                self.put(&mut entry, &place).map_err(Error::file("install", &path))?;
            }
        }
        Ok(())
    }

    fn put(&self, entry: &mut Entry<'_, impl Read>, place: &Path) -> io::Result<()> {
        let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = place.parent().unwrap_or(place);
        if name == OPAQUE {
            fs::remove_dir_all(folder)?;
            return fs::create_dir(folder);
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            return remove(&folder.join(gone));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Symlink => {
                remove(place)?;
                entry.unpack(place).map(drop)
            }
            EntryType::Link => {
                let to = entry.link_name()?.unwrap_or_default().into_owned();
                let other = self.place(&to).filter(|other| other.symlink_metadata().is_ok());
                let other = other.ok_or_else(|| {
                    io::Error::other(format!("it is another name of {}, which is not installed", to.display()))
                })?;
                remove(place)?;
                fs::hard_link(other, place)
            }
            // Folders, and what is no program.
            _ => Ok(()),
        }
    }

    /// Gives the files their names: all of them, or none where one is there that may not be replaced.
    fn install(self, replace: bool) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for folder in self.folders {
            let staged = self.folder.path().join(folder);
            for entry in fs::read_dir(&staged).map_err(Error::file("read", &staged))? {
                let name = entry.map_err(Error::file("read", &staged))?.file_name();
                files.push((staged.join(&name), self.target.join(folder).join(&name)));
            }
        }
        files.sort();
        if let Some((_, file)) = files.iter().find(|(_, file)| !replace && file.symlink_metadata().is_ok()) {
            return Err(Error::Conflict {
                what: "file",
                name: file.display().to_string(),
                state: "is there already".into(),
                cure: Some("#{ replace: true } replaces what is there; nothing was installed".into()),
            });
        }
        for folder in self.folders {
            let folder = self.target.join(folder);
            fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        }
        for (staged, file) in &files {
            fs::rename(staged, file).map_err(Error::file("install", file))?;
        }
        Ok(files.into_iter().map(|(_, file)| file).collect())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
