//! Images as files: archives, file systems that become images, and images on a folder.

use super::{
    ALL_PLATFORMS, COMPRESSION, DISCARD, ImageObject, PLATFORM, SNAPSHOTTER, compression, discard, platform, platforms,
};
use crate::grant::Access;
use crate::layout::RootfsOptions;
use crate::oci::media_type::Compression;
use crate::oci::{Matcher, Platform, Reference};
use crate::ops;
use crate::ops::image::{Arrival, LoadOptions, MountOptions, SaveOptions};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::NameList;

const UNPACK: Opt = Opt::new("unpack", "bool", "Whether layers are unpacked. Default true.");
const FORCE: Opt = Opt::new("force", "bool", "Whether a name that points elsewhere is pointed here. Default false.");

fn arrival(options: &Options, platforms: Matcher) -> Result<Arrival> {
    Ok(Arrival {
        platforms,
        unpack: options.bool("unpack")?.unwrap_or(true),
        snapshotter: options.string("snapshotter")?,
        ..Arrival::default()
    })
}

const LOAD: Spec = Spec {
    name: "load",
    on: On::Node,
    params: &[Param::of("path", Names::File)],
    options: &[
        Opt::new(
            "name",
            "string",
            "The name for an image that has none in the archive, or the repository for bare tags.",
        ),
        Opt::new(
            "index_name",
            "string",
            "A name for the archive's own index, of all its images, which is the first of what is returned. An archive of Docker's gets the index that ctr makes of it. Default: no name.",
        ),
        FORCE,
        UNPACK,
        DISCARD,
        SNAPSHOTTER,
    ],
    access: Access::Write,
    doc: "Brings in all images of an archive that `docker save`, `ctr images export` or an OCI tool wrote, plain or compressed, and returns them.\n\nThe file needs `files` access below the working folder and `host` access elsewhere. Images without a full name are told of and left out; `name` gives them one. A compressed archive is spooled to the temporary folder. Of an image for several platforms, what the archive holds is brought in and this host's platform is unpacked.",
    examples: &[
        Example::gives(
            "save(\"busybox\", \"box.tar\"); load(\"box.tar\")[0].name",
            "\"docker.io/library/busybox:latest\"",
        ),
        Example::gives(
            "save(\"busybox\", \"box.tar\"); load(\"box.tar\", #{ index_name: \"example/all:1\" }).map(|i| i.name)",
            "[\"docker.io/example/all:1\",\"docker.io/library/busybox:latest\"]",
        ),
    ],
};

fn load(call: &Call<'_>, path: String, options: Options) -> Result<Vec<ImageObject>> {
    let named = |key| -> Result<Option<Reference>> {
        Ok(options.string(key)?.map(|name| name.parse()).transpose().map_err(ops::Error::from)?)
    };
    let arrival = Arrival { discard_layers: discard(&options)?, ..arrival(&options, Matcher::All)? };
    let (name, index_name) = (named("name")?, named("index_name")?);
    let settings = LoadOptions { arrival, name, index_name, force: options.flag("force")? };
    let path = call.ctx().settings().working_dir.join(path);
    let images = call.run(ops::image::Load::new(path, settings))?;
    Ok(ImageObject::list(images, call.ctx().place()))
}

const SAVE_OPTIONS: &[Opt] = &[PLATFORM, ALL_PLATFORMS, COMPRESSION];

const SAVE: Spec = Spec {
    name: "save",
    on: On::Node,
    params: &[Param::of("references", Names::Image), Param::of("path", Names::File)],
    options: SAVE_OPTIONS,
    access: Access::Read,
    doc: "Writes one image or several to an OCI archive that Docker and ctr load too, and returns its length in bytes.\n\nThe file needs `files` access below the working folder and `host` access elsewhere; it appears when it is whole. Without `platform`, all platforms that are here whole are written.",
    examples: &[Example::gives("save(\"busybox\", \"box.tar.gz\") > 1000", "true")],
};

fn save(call: &Call<'_>, references: NameList, path: String, options: Options) -> Result<u64> {
    let chosen = options.any("platform").is_some() || options.flag("all_platforms")?;
    let settings = SaveOptions {
        platforms: chosen.then(|| platforms(&options)).transpose()?,
        compression: compression(&options)?.unwrap_or_else(|| Compression::of_name(path.as_ref())),
    };
    let path = call.ctx().settings().working_dir.join(path);
    call.run(ops::image::Save::new(references.0, path, settings))
}

const FROM_ROOTFS: Spec = Spec {
    name: "from_rootfs",
    on: On::Node,
    params: &[Param::of("path", Names::File), Param::new("name")],
    options: &[
        Opt::new(
            "cmd",
            "string or array",
            "Arguments when none are given, or the program when there is no entrypoint.",
        ),
        Opt::new("entrypoint", "string or array", "The program, and its first arguments."),
        Opt::new("env", "map or array", "Environment variables. Unless it is named, `PATH` holds the usual folders."),
        Opt::new("cwd", "string", "Where it starts."),
        Opt::new("user", "string", "The user, `user|uid[:group|gid]`."),
        Opt::new("label", "map", "Labels of the image's config."),
        Opt::new("stop_signal", "string", "The signal that asks it to end, such as `SIGQUIT`."),
        Opt::new("platform", "string", "The platform that the files are for. Default: this host's."),
        FORCE,
        UNPACK,
        SNAPSHOTTER,
    ],
    access: Access::Write,
    doc: "Makes an image of a folder or of a tar, as `docker import` does, and returns it.\n\nEqual files make an equal image. The files need `files` access below the working folder and `host` access elsewhere.",
    examples: &[Example::gives(
        "from_rootfs(\"rootfs\", \"example/made:1\", #{ cmd: [\"/bin/sh\"] }).name",
        "\"docker.io/example/made:1\"",
    )],
};

fn from_rootfs(call: &Call<'_>, path: String, name: String, options: Options) -> Result<ImageObject> {
    let name: Reference = name.parse().map_err(ops::Error::from)?;
    let on = match options.string("platform")? {
        Some(text) => text.parse::<Platform>().map_err(ops::Error::from)?,
        None => Platform::host(),
    };
    let pairs = |key| -> Result<Vec<(String, String)>> {
        let pairs = options.pairs(key)?.unwrap_or_default();
        Ok(pairs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
    };
    let config = RootfsOptions {
        entrypoint: options.strings("entrypoint")?.unwrap_or_default(),
        cmd: options.strings("cmd")?.unwrap_or_default(),
        env: pairs("env")?.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
        working_dir: options.string("cwd")?,
        user: options.string("user")?,
        labels: pairs("label")?.into_iter().collect(),
        stop_signal: options.string("stop_signal")?,
        ..RootfsOptions::new(on.clone())
    };
    let arrival = arrival(&options, Matcher::Any(vec![on]))?;
    let path = call.ctx().settings().working_dir.join(path);
    let made = ops::image::FromRootfs::new(path, name, config, arrival, options.flag("force")?);
    Ok(ImageObject::new(call.run(made)?, call.ctx().place()))
}

const IMAGE_SAVE: Spec = Spec {
    name: "save",
    on: On::Method,
    params: &[Param::of("path", Names::File)],
    options: SAVE_OPTIONS,
    access: Access::Read,
    doc: "Writes the image to an OCI archive that Docker and ctr load too, and returns its length in bytes.",
    examples: &[Example::gives("image(\"busybox\").save(\"box.tar\") > 1000", "true")],
};

fn image_save(call: &Call<'_>, image: ImageObject, path: String, options: Options) -> Result<u64> {
    save(call, NameList(vec![image.record().name.clone()]), path, options)
}

const IMAGE_UNPACK: Spec = Spec {
    name: "unpack",
    on: On::Method,
    params: &[],
    options: &[PLATFORM, SNAPSHOTTER],
    access: Access::Write,
    doc: "Makes snapshots of the image's layers, those that are there already left alone, and returns how many it made.",
    examples: &[Example::gives("image(\"busybox\").unpack() >= 0", "true")],
};

fn image_unpack(call: &Call<'_>, image: ImageObject, options: Options) -> Result<u64> {
    let matcher = platform(options.strings("platform")?)?;
    let unpack = ops::image::Unpack::new(&image.record().name, matcher, options.string("snapshotter")?);
    call.run_in(&call.at(image.place()), unpack)
}

const IMAGE_MOUNT: Spec = Spec {
    name: "mount",
    on: On::Method,
    params: &[Param::of("path", Names::MountPoint)],
    options: &[
        Opt::new("rw", "bool", "Whether it can be written; the writes are gone with the snapshot. Default false."),
        Opt::new(
            "expiration",
            "duration",
            "How long the daemon keeps the snapshot behind it, as ctr's lease does for a day. Default: until `unmount`.",
        ),
        PLATFORM,
        SNAPSHOTTER,
    ],
    access: Access::Host,
    doc: "Mounts the image's files on a folder of this host, which is made if it is not there, and returns the folder.\n\nctrsh has to run as root on the daemon's own host. The snapshot behind it has the folder's path for its key and stays until `unmount`.",
    examples: &[
        Example::gives("image(\"busybox\").mount(\"mnt\"); unmount(\"mnt\"); 1", "1"),
        Example::gives("image(\"busybox\").mount(\"mnt\", #{ expiration: \"1h\" }); unmount(\"mnt\"); 1", "1"),
    ],
};

fn image_mount(call: &Call<'_>, image: ImageObject, path: String, options: Options) -> Result<String> {
    let target = call.ctx().settings().working_dir.join(path);
    let settings = MountOptions {
        writable: options.flag("rw")?,
        platform: platform(options.strings("platform")?)?,
        snapshotter: options.string("snapshotter")?,
        expiration: options.duration("expiration")?,
    };
    let mount = ops::image::Mount::new(&image.record().name, target, settings);
    Ok(call.run_in(&call.at(image.place()), mount)?.display().to_string())
}

const UNMOUNT: Spec = Spec {
    name: "unmount",
    on: On::Node,
    params: &[Param::of("path", Names::MountPoint)],
    options: &[
        Opt::new("rm", "bool", "Whether the snapshot behind it and its lease go too. Default true, other than ctr's."),
        SNAPSHOTTER,
    ],
    access: Access::Host,
    doc: "Unmounts a folder that `Image.mount` or `snapshots::mount` mounted. The snapshot behind it goes when it was made by `Image.mount`, here or by ctr.",
    examples: &[Example::runs("image(\"busybox\").mount(\"mnt\", #{ rw: true }); unmount(\"mnt\")")],
};

fn unmount(call: &Call<'_>, path: String, options: Options) -> Result<()> {
    let target = call.ctx().settings().working_dir.join(path);
    let remove = options.bool("rm")?.unwrap_or(true);
    call.run(ops::image::Unmount::new(target, remove, options.string("snapshotter")?))
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&LOAD, load);
    catalog.add(&SAVE, save);
    catalog.add(&FROM_ROOTFS, from_rootfs);
    catalog.add(&IMAGE_SAVE, image_save);
    catalog.add(&IMAGE_UNPACK, image_unpack);
    catalog.add(&IMAGE_MOUNT, image_mount);
    catalog.add(&UNMOUNT, unmount);
}
