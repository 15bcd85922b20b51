//! `ctr images`.

use super::content::DIGEST;
use super::error::Error;
use super::parse::Parsed;
use super::source::{self, Map, Missing, all_of, array, call, each, labels, naming, one_or_array, text, writing};
use super::table::{
    ALL_PLATFORMS, ANY, COMMAND, Command, Flag, Form, LOCAL, LOCAL_OR_DAEMON, NO_REGISTRY, PLATFORM, QUIET, REGISTRY,
    SNAPSHOTTER, SYNC_FS, Tier, Value, many, one, option, option_as, script, silent, switch,
};
use super::{Result, Step};

const BUSYBOX: &str = "docker.io/library/busybox:latest";
const GROUP: &str = "images";

/// Labels of an image.
const LABEL: Flag = many("label", "team=core", Tier::A, option(Value::Labels));

const WHOLE_INDEX: Form =
    Form::Other("pull keeps the index as it is and what it fetches of it, and push and save send what is here");

const ALWAYS_FOUR: Form = Form::Other("four blobs of an image move at the same time");

const PULL: &[Flag] = &[
    SNAPSHOTTER,
    LABEL,
    PLATFORM,
    ALL_PLATFORMS,
    switch("all-metadata", Tier::B, WHOLE_INDEX),
    switch("skip-metadata", Tier::B, WHOLE_INDEX),
    switch("print-chainid", Tier::B, Form::Own),
    one("max-concurrent-downloads", "8", Tier::B, ALWAYS_FOUR),
    LOCAL_OR_DAEMON,
    SYNC_FS,
];

fn pull(p: &Parsed) -> Result<Vec<Step>> {
    let pulled = call("pull", &[p.text(0)], &p.options()?);
    script(if p.has("print-chainid") { format!("{pulled}.chain_id()") } else { pulled })
}

const PUSH: &[Flag] = &[
    one("manifest", DIGEST, Tier::C, option(Value::Text)),
    one(
        "manifest-type",
        "application/vnd.oci.image.manifest.v1+json",
        Tier::C,
        Form::Other("a manifest says itself what it is"),
    ),
    many("platform", "linux/arm64", Tier::A, Form::Own),
    one("max-concurrent-uploaded-layers", "8", Tier::B, ALWAYS_FOUR),
    switch(
        "allow-non-distributable-blobs",
        Tier::B,
        Form::Other("what is in the content store is sent, whatever its media type says of it"),
    ),
    LOCAL_OR_DAEMON,
];

fn push(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = p.options()?;
    // As with ctr, a manifest is sent whatever image stands there.
    let source = p.args().get(1).filter(|_| !p.has("manifest"));
    match p.values("platform")[..] {
        [] => {}
        [platform] => options.set("platform", text(platform)),
        ref several if p.has("manifest") => {
            let problem = format!("takes one --platform beside --manifest, not {}", several.len());
            return Err(Error::arguments(p.command, problem));
        }
        ref several => {
            let mut all = Map::default();
            all.set("platforms", array(several));
            all.extend(options);
            let source = text(&format!("containerd:{}", source.unwrap_or(&p.args()[0])));
            return script(call("copy", &[source, p.text(0)], &all));
        }
    }
    let mut arguments = vec![p.text(0)];
    arguments.extend(source.map(|source| text(source)));
    script(call("push", &arguments, &options))
}

fn list(p: &Parsed) -> Result<Vec<Step>> {
    super::table::listed(p, &call("images", &p.filters(), &Map::default()), "i", "name")
}

fn tag(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    let tags: Vec<String> =
        p.args()[1..].iter().map(|to| naming(&call("tag", &[p.text(0), text(to)], &options), &text(to))).collect();
    script(source::sequence(&tags))
}

fn delete(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    script(all_of("i", p.args(), Missing::IsTold, |i| naming(&call("delete_images", &[i], &options), i)))
}

const ALL_OF_IT: Form =
    Form::Other("all that the archive holds is brought in; copy(\"archive:FILE\", node(), #{ platforms: … }) chooses");
const NO_DIGEST_NAMES: Form = Form::Other("images get the names of the archive; image(NAME).digest has the digest");

const IMPORT: &[Flag] = &[
    one("base-name", "example/box", Tier::A, option_as("name", Value::Text)),
    switch("digests", Tier::B, NO_DIGEST_NAMES),
    switch("skip-digest-for-named", Tier::B, NO_DIGEST_NAMES),
    one("index-name", "example/all:1", Tier::B, option(Value::Text)),
    switch("all-platforms", Tier::A, ALL_OF_IT),
    one("platform", "linux/arm64", Tier::A, ALL_OF_IT),
    switch("no-unpack", Tier::A, option_as("unpack", Value::Off)),
    switch("compress-blobs", Tier::B, Form::Other("blobs keep their bytes, and images their digests")),
    SNAPSHOTTER,
    LOCAL,
    switch("discard-unpacked-layers", Tier::B, option(Value::Switch)),
    many("label", "team=core", Tier::B, Form::Own),
    SYNC_FS,
];

fn import(p: &Parsed) -> Result<Vec<Step>> {
    let file = if p.args()[0] == "-" { text("/dev/stdin") } else { p.text(0) };
    let load = call("load", &[file], &p.options()?);
    script(match p.values("label")[..] {
        [] => load,
        ref pairs => each("i", &load, &format!("i.label({})", labels(pairs))),
    })
}

const EXPORT: &[Flag] = &[
    switch("skip-manifest-json", Tier::B, Form::Other("the archive has it always, for Docker; OCI tools pass over it")),
    switch(
        "skip-non-distributable",
        Tier::B,
        Form::Other("what is in the content store is written, else no archive is whole"),
    ),
    PLATFORM,
    ALL_PLATFORMS,
    LOCAL,
];

fn export(p: &Parsed) -> Result<Vec<Step>> {
    let images = one_or_array(&p.args()[1..]);
    script(match p.args()[0].as_str() {
        "-" => writing(&call("save", &[images, text("/dev/stdout")], &p.options()?)),
        _ => return silent(call("save", &[images, p.text(0)], &p.options()?)),
    })
}

fn check(p: &Parsed) -> Result<Vec<Step>> {
    let options = p.options()?;
    let mut arguments = p.filters();
    if arguments.is_empty() && !options.is_empty() {
        arguments.push("()".into());
    }
    let check = call("check", &arguments, &options);
    script(match p.has("quiet") {
        true => each("c", &check, "if c.complete && c.unpacked { print(c.name) }"),
        false => check,
    })
}

/// A call of a method of the image that stands first.
fn of_image(p: &Parsed, method: &str, arguments: &[String], options: &Map) -> String {
    format!("image({}).{}", p.text(0), call(method, arguments, options))
}

fn label(p: &Parsed) -> Result<Vec<Step>> {
    script(of_image(p, "label", &[p.labels(1)?], &p.options()?))
}

fn prune(p: &Parsed) -> Result<Vec<Step>> {
    if !p.has("all") {
        let problem = "does nothing without --all";
        return Err(Error::arguments(p.command, problem));
    }
    script("prune()")
}

const MOUNT: &[Flag] = &[
    one("snapshotter", "native", Tier::B, option(Value::Text)),
    many("label", "team=core", Tier::C, Form::Other("nothing gets labels by it, as with ctr")),
    switch("rw", Tier::B, option(Value::Switch)),
    one("platform", "linux/arm64", Tier::B, option(Value::Text)),
    one("expiration", "1h", Tier::B, option(Value::Text)).or("x"),
    SYNC_FS,
];

fn mount(p: &Parsed) -> Result<Vec<Step>> {
    script(of_image(p, "mount", &[p.text(1)], &p.options()?))
}

const UNMOUNT: &[Flag] = &[
    one("snapshotter", "native", Tier::B, option(Value::Text)),
    many("label", "team=core", Tier::C, Form::Other("nothing gets labels by it, as with ctr")),
    switch("rm", Tier::B, Form::Own),
];

fn unmount(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = p.options()?;
    if !p.has("rm") {
        options.set("rm", "false");
    }
    script(call("unmount", &[p.text(0)], &options))
}

fn usage(p: &Parsed) -> Result<Vec<Step>> {
    script(of_image(p, "usage", &[], &p.options()?))
}

fn inspect(p: &Parsed) -> Result<Vec<Step>> {
    script(of_image(p, "inspect", &[], &p.options()?))
}

const CONVERT: &[Flag] = &[
    switch("uncompress", Tier::B, option(Value::Switch)),
    switch("oci", Tier::B, option(Value::Switch)),
    many("platform", "linux/arm64", Tier::B, option(Value::Texts)),
    switch("all-platforms", Tier::B, option(Value::Switch)),
];

fn convert(p: &Parsed) -> Result<Vec<Step>> {
    script(format!("print({}.digest)", call("convert", &[p.text(0), p.text(1)], &p.options()?)))
}

const INSTALL: &[Flag] = &[
    switch("libs", Tier::C, option(Value::Switch)).or("l"),
    switch("replace", Tier::C, option(Value::Switch)).or("r"),
    one("path", "/opt", Tier::C, option(Value::Text)),
];

fn install(p: &Parsed) -> Result<Vec<Step>> {
    script(of_image(p, "install", &[], &p.options()?))
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: GROUP,
        names: &["list", "ls"],
        id: "I1",
        usage: "[--quiet] [FILTER…]",
        count: (0, ANY),
        sample: &["name~=busybox"],
        flags: &[&[QUIET]],
        make: list,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["pull"],
        id: "I2",
        usage: "[FLAGS] IMAGE",
        count: (1, 1),
        sample: &[BUSYBOX],
        flags: &[REGISTRY, PULL],
        make: pull,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["push"],
        id: "I3",
        usage: "[FLAGS] TARGET [IMAGE]",
        count: (1, 2),
        sample: &["harbor.example/course/box:1", BUSYBOX],
        flags: &[REGISTRY, PUSH],
        make: push,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["tag"],
        id: "I4",
        usage: "[--force] IMAGE NAME…",
        count: (2, ANY),
        sample: &[BUSYBOX, "example/box:1"],
        flags: &[&[
            switch("force", Tier::A, option(Value::Switch)),
            LOCAL,
            switch(
                "skip-reference-check",
                Tier::B,
                Form::Other("a name has to be a reference, or no other tool could use it"),
            ),
        ]],
        make: tag,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["delete", "del", "remove", "rm"],
        id: "I5",
        usage: "[--sync] IMAGE…",
        count: (1, ANY),
        sample: &["example/box:1"],
        flags: &[&[switch("sync", Tier::A, option_as("wait", Value::Switch))]],
        make: delete,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["import"],
        id: "I6",
        usage: "[FLAGS] FILE",
        count: (1, 1),
        sample: &["box.tar"],
        flags: &[IMPORT],
        make: import,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["export"],
        id: "I7",
        usage: "[FLAGS] FILE IMAGE…",
        count: (2, ANY),
        sample: &["box.tar", BUSYBOX],
        flags: &[EXPORT],
        make: export,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["check"],
        id: "I8",
        usage: "[--quiet] [FILTER…]",
        count: (0, ANY),
        sample: &["name~=busybox"],
        flags: &[&[QUIET, SNAPSHOTTER]],
        make: check,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["label"],
        id: "I9",
        usage: "[--replace-all] IMAGE KEY=VALUE…",
        count: (1, ANY),
        sample: &[BUSYBOX, "team=core"],
        flags: &[&[switch("replace-all", Tier::A, option(Value::Switch)).or("r")]],
        make: label,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["prune"],
        id: "I10",
        usage: "--all",
        needs: &["--all"],
        flags: &[&[switch("all", Tier::A, Form::Own)]],
        make: prune,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["mount"],
        id: "I11",
        tier: Tier::B,
        usage: "[--rw] IMAGE FOLDER",
        count: (2, 2),
        sample: &[BUSYBOX, "/mnt"],
        flags: &[NO_REGISTRY, MOUNT],
        forms: &["--rw", "--expiration"],
        make: mount,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["unmount"],
        id: "I12",
        tier: Tier::B,
        usage: "[--rm] FOLDER",
        count: (1, 1),
        sample: &["/mnt"],
        flags: &[NO_REGISTRY, UNMOUNT],
        make: unmount,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["usage"],
        id: "I13",
        tier: Tier::B,
        usage: "IMAGE",
        count: (1, 1),
        sample: &[BUSYBOX],
        flags: &[&[one("snapshotter", "native", Tier::B, option(Value::Text))]],
        make: usage,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["inspect", "i"],
        id: "I14",
        usage: "[--content] IMAGE",
        count: (1, 1),
        sample: &[BUSYBOX],
        flags: &[&[switch("content", Tier::A, option(Value::Switch))]],
        make: inspect,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["convert"],
        id: "I15",
        tier: Tier::B,
        usage: "[FLAGS] IMAGE NAME",
        count: (2, 2),
        sample: &[BUSYBOX, "example/plain:1"],
        flags: &[CONVERT],
        make: convert,
        ..COMMAND
    },
    Command {
        names: &["install"],
        id: "X1",
        tier: Tier::C,
        usage: "[FLAGS] IMAGE",
        count: (1, 1),
        sample: &[BUSYBOX],
        flags: &[INSTALL],
        make: install,
        ..COMMAND
    },
];
