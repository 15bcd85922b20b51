//! Snapshots: the objects, and the functions of `snapshots::`.

mod change;
mod diff;
mod object;
mod read;

pub use object::SnapshotObject;

use rhai::Dynamic;

use crate::containerd::Labels;
use crate::oci::Matcher;
use crate::ops;
use crate::script::api::image::{ImageObject, SNAPSHOTTER};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, On, Opt};
use crate::script::error::Result;
use crate::script::options::Options;
use crate::script::value::{Arg, Name, Slot};

/// Where the functions are.
const MODULE: On = On::Module("snapshots");

/// The options of functions that only need to know the snapshotter.
const IN: &[Opt] = &[SNAPSHOTTER];

/// Returns the snapshotter that a call is about.
fn snapshotter(call: &Call<'_>, options: &Options) -> Result<String> {
    let named = options.string("snapshotter")?;
    call.wait(ops::image::snapshotter(call.ctx(), named.as_deref()))
}

/// Reads labels; `()` becomes the empty text.
fn labels(options: &Options, key: &'static str) -> Result<Labels> {
    let pairs = options.pairs(key)?.unwrap_or_default();
    Ok(pairs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

/// Reads what a snapshot stands on: a key, a snapshot, or an image, which stands for its topmost layer.
fn parent(call: &Call<'_>, value: Option<Dynamic>) -> Result<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    let image = value.read_lock::<ImageObject>().map(|image| image.clone());
    match image {
        Some(image) => {
            let top = call.wait(ops::image::chain_id(call.ctx(), image.record(), &Matcher::host()))?;
            Ok(top.map(|digest| digest.to_string()))
        }
        None => Ok(Some(Name::take(Some(value), Slot { call, name: "parent" })?.0)),
    }
}

/// Registers the functions and objects of snapshots.
pub(crate) fn register(catalog: &mut Catalog) {
    object::register(catalog);
    read::register(catalog);
    change::register(catalog);
    diff::register(catalog);
}
