//! `install`.

use super::{ImageObject, PLATFORM, platform};
use crate::grant::Access;
use crate::ops;
use crate::ops::image::InstallOptions;
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Spec};
use crate::script::error::Result;
use crate::script::options::Options;

const INSTALL: Spec = Spec {
    name: "install",
    on: On::Method,
    params: &[],
    options: &[
        Opt::new(
            "path",
            "string",
            "The folder. Default: the one that the daemon has for it, `/opt/containerd` unless it is configured otherwise.",
        ),
        Opt::new("libs", "bool", "Whether the files of the image's `/lib` go into its `lib` too. Default false."),
        Opt::new("replace", "bool", "Whether files that are there are replaced. Default false."),
        PLATFORM,
    ],
    access: Access::Host,
    doc: "Puts the files of the image's `/bin` into the `bin` of a folder of this host, as `ctr install` does, and returns their paths.\n\nThey come from the layers, with their modes and, as root, their owners; folders below are left out. All of them are installed or, where one is there already, none.",
    examples: &[Example::gives(
        "image(\"busybox\").install(#{ path: \"tools\" }).some(|f| f.ends_with(\"/tools/bin/busybox\"))",
        "true",
    )],
};

fn install(call: &Call<'_>, image: ImageObject, options: Options) -> Result<Vec<String>> {
    let settings = InstallOptions {
        path: options.string("path")?.map(Into::into),
        libs: options.flag("libs")?,
        replace: options.flag("replace")?,
        platform: platform(options.strings("platform")?)?,
    };
    let install = ops::image::Install::new(&image.record().name, settings);
    let files = call.run_in(&call.at(image.place()), install)?;
    Ok(files.iter().map(|file| file.display().to_string()).collect())
}

/// Registers the function.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add(&INSTALL, install);
}
