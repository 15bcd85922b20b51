//! Files of containers.

use rhai::Map;

use super::ContainerObject;
use crate::grant::Access;
use crate::ops::Context;
use crate::ops::container::{CopyFiles, CopyFilesOptions, Direction, Tally};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, Names, On, Opt, Param, Spec};
use crate::script::error::Result;
use crate::script::options::Options;

const OPTIONS: &[Opt] = &[
    Opt::new(
        "archive",
        "bool",
        "Whether owners, set-user-ID bits, capabilities, `user.` attributes and devices are kept. Default false.",
    ),
    Opt::new("follow", "bool", "Whether a symbolic link that is named as the source is followed. Default false."),
];

const CP: Spec = Spec {
    name: "cp",
    on: On::Node,
    params: &[Param::of("source", Names::File), Param::of("target", Names::File)],
    options: OPTIONS,
    access: Access::Host,
    doc: "Copies a file or a folder between a container and this host, as `docker cp` does, and returns how many `files` and `bytes` that were and how many were `left_out`.\n\nOne of the two is a path of the container, `ID:PATH`; a local path with a colon in it begins with `./` or `/`. What is copied goes into a folder that is there, under its own name; of a source that ends in `/.` only the content does. Else it gets the name of the target, whose folder has to be there. Files take their places whole, modes and times stay, and holes and hard links stay what they are.\n\nThe container may run or not. While it runs, its volumes and other mounts are seen as it sees them. Links are resolved inside it, so that none leads to this host's files. What goes in belongs to who is root in the container; what comes out belongs to who runs ctrsh, and loses its set-user-ID bits. Sockets are left out, and devices unless `archive` is set. It needs root, and Linux 5.6.",
    examples: &[Example::gives(
        "write_file(\"motd\", \"hello\"); create(\"cp-1\", \"busybox\"); cp(\"motd\", \"cp-1:/etc/motd\"); let out = cp(\"cp-1:/etc/motd\", \"back\"); delete(\"cp-1\"); out.bytes",
        "5",
    )],
};

fn transfer(
    call: &Call<'_>,
    ctx: &Context,
    direction: Direction,
    (id, inside): (&str, &str),
    outside: &str,
    options: &Options,
) -> Result<Map> {
    let how = CopyFilesOptions { archive: options.flag("archive")?, follow: options.flag("follow")? };
    let Tally { files, bytes, left_out, .. } = call.run_in(ctx, CopyFiles::new(id, direction, inside, outside, how))?;
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).into();
    Ok(Map::from([
        ("files".into(), count(files)),
        ("bytes".into(), count(bytes)),
        ("left_out".into(), count(left_out)),
    ]))
}

/// Reads `ID:PATH`; a path of this host has no colon, or a slash before it.
fn of_container(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(id, _)| !id.is_empty() && !id.contains('/'))
}

fn cp(call: &Call<'_>, source: String, target: String, options: Options) -> Result<Map> {
    match (of_container(&source), of_container(&target)) {
        (Some(inside), None) => transfer(call, call.ctx(), Direction::Out, inside, &target, &options),
        (None, Some(inside)) => transfer(call, call.ctx(), Direction::In, inside, &source, &options),
        (None, None) => {
            Err(call.argument("source", "and the target are both of this host; write a container's path as ID:PATH"))
        }
        (Some(_), Some(_)) => {
            Err(call.argument("source", "and the target are both of a container; copy to this host between them"))
        }
    }
}

const COPY_FROM: Spec = Spec {
    name: "copy_from",
    on: On::Method,
    params: &[Param::new("path"), Param::of("target", Names::File)],
    options: OPTIONS,
    access: Access::Host,
    doc: "Copies a file or a folder of the container to this host, as `cp` does.",
    examples: &[Example::gives(
        "let c = run(\"busybox\", #{ id: \"cp-2\", detach: true, command: [\"sleep\", \"60\"] }); c.exec([\"sh\", \"-c\", \"echo made > /tmp/here\"]); let out = c.copy_from(\"/tmp/here\", \"from\"); c.delete(#{ force: true }); out.files",
        "1",
    )],
};

fn copy_from(
    call: &Call<'_>,
    container: ContainerObject,
    path: String,
    target: String,
    options: Options,
) -> Result<Map> {
    transfer(call, &call.at(container.place()), Direction::Out, (container.id(), &path), &target, &options)
}

const COPY_TO: Spec = Spec {
    name: "copy_to",
    on: On::Method,
    params: &[Param::of("source", Names::File), Param::new("path")],
    options: OPTIONS,
    access: Access::Host,
    doc: "Copies a file or a folder of this host into the container, as `cp` does.",
    examples: &[Example::gives(
        "write_file(\"given\", \"x\"); let c = run(\"busybox\", #{ id: \"cp-3\", detach: true, command: [\"sleep\", \"60\"] }); c.copy_to(\"given\", \"/tmp\"); let r = c.exec([\"cat\", \"/tmp/given\"]); c.delete(#{ force: true }); r.stdout",
        "\"x\"",
    )],
};

fn copy_to(call: &Call<'_>, container: ContainerObject, source: String, path: String, options: Options) -> Result<Map> {
    transfer(call, &call.at(container.place()), Direction::In, (container.id(), &path), &source, &options)
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add(&CP, cp);
    catalog.add(&COPY_FROM, copy_from);
    catalog.add(&COPY_TO, copy_to);
}
