//! `Image.inspect`, and what it returns.

use std::sync::Arc;

use rhai::{Array, Dynamic, Map};
use serde_json::{Value, json};

use super::{ImageObject, SNAPSHOTTER};
use crate::grant::Access;
use crate::ops;
use crate::ops::image::{InspectOptions, Node, NodeKind};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Spec};
use crate::script::convert;
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::tree;
use crate::script::units::show_size;

/// All content of an image.
#[derive(Clone)]
struct InspectionObject {
    name: String,
    labels: Map,
    root: Arc<Node>,
}

impl InspectionObject {
    /// Adds up the bytes of each piece of content once.
    fn sum(&self, keep: impl Fn(&Node) -> bool) -> Dynamic {
        let mut seen = std::collections::HashSet::new();
        let all = self.root.all().into_iter().filter(|node| keep(node) && seen.insert(node.descriptor.digest.clone()));
        i64::try_from(all.map(|node| node.descriptor.size).sum::<u64>()).unwrap_or(i64::MAX).into()
    }
}

impl Object for InspectionObject {
    const TYPE: &'static str = "Inspection";
    const DOC: &'static str = "All content of an image, as its documents list it. It is shown as a tree.";
    const AS_TEXT: bool = true;

    fn fields() -> &'static [Field<Self>] {
        type F = Field<InspectionObject>;
        const FIELDS: &[F] = &[
            F::field("name", "string", "The image.", |i, _| Ok(i.name.clone().into())),
            F::field("digest", "string", "The digest of the manifest or index that it points to.", |i, _| {
                Ok(i.root.descriptor.digest.to_string().into())
            })
            .unit(Unit::Digest),
            F::field("media_type", "string", "The media type of that.", |i, _| {
                Ok(i.root.descriptor.media_type.to_string().into())
            }),
            F::field("labels", "map", "The labels of the record.", |i, _| Ok(i.labels.clone().into())),
            F::field("present", "int", "Bytes of it that are here, over all platforms.", |i, _| {
                Ok(i.sum(|node| node.here))
            })
            .unit(Unit::Bytes),
            F::field("total", "int", "All its bytes over all platforms, as far as its documents are here.", |i, _| {
                Ok(i.sum(|_| true))
            })
            .unit(Unit::Bytes),
            F::field(
                "manifests",
                "array",
                "Its images, one a platform, each a map: `digest`, `media_type`, `size`, `here`, `platform`, `unpacked`, `config`, `layers`, and for what BuildKit attests `attests`. An index within has `manifests` of its own; what points to it may add `annotations` and `artifact_type`.",
                |i, _| {
                    let children = match &i.root.kind {
                        NodeKind::Index(children) => children.iter().map(described).collect(),
                        _ => vec![described(&i.root)],
                    };
                    Ok(children.into_iter().map(convert::from_json).collect::<Array>().into())
                },
            ),
            F::field(
                "content",
                "map",
                "What the index itself says, when that was asked for and there is one; else `()`.",
                |i, _| {
                    let content = i.root.content.clone().filter(|_| matches!(i.root.kind, NodeKind::Index(_)));
                    Ok(content.map_or(Dynamic::UNIT, convert::from_json))
                },
            ),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        let mut lines = vec![(0, self.name.clone())];
        lines_of(&self.root, "", 1, &mut lines);
        Some(tree::draw(&lines))
    }
}

/// The annotation with the digest of the image that an attestation is of (BuildKit, docs/attestations).
const ATTESTED: &str = "vnd.docker.reference.digest";

/// Writes a piece of content, and all below it, as JSON.
fn described(node: &Node) -> Value {
    let descriptor = &node.descriptor;
    let mut map = json!({
        "digest": descriptor.digest, "media_type": descriptor.media_type, "size": descriptor.size, "here": node.here,
    });
    let mut add = |key: &str, value: Value| map[key] = value;
    match &node.kind {
        NodeKind::Index(children) => add("manifests", children.iter().map(described).collect()),
        NodeKind::Manifest { platform, unpacked, config, layers } => {
            add("platform", platform.as_ref().filter(|p| !p.is_unknown()).map(ToString::to_string).into());
            if descriptor.is_attestation() {
                add("attests", descriptor.annotations.get(ATTESTED).cloned().into());
            } else {
                add("unpacked", (*unpacked).into());
            }
            add("config", config.as_deref().map(described).into());
            add("layers", layers.iter().map(described).collect());
        }
        NodeKind::Layer { diff_id, chain_id } => {
            add("diff_id", json!(diff_id));
            add("chain_id", json!(chain_id));
        }
        NodeKind::Blob => {}
    }
    if !descriptor.annotations.is_empty() {
        add("annotations", json!(descriptor.annotations));
    }
    if let Some(artifact) = &descriptor.artifact_type {
        add("artifact_type", json!(artifact));
    }
    if let Some(content) = &node.content {
        add("content", content.clone());
    }
    map
}

/// Writes a piece of content, and all below it, as lines of a tree.
fn lines_of(node: &Node, role: &str, depth: usize, lines: &mut Vec<(usize, String)>) {
    let descriptor = &node.descriptor;
    let role = match &node.kind {
        NodeKind::Index(_) => "index".to_owned(),
        NodeKind::Manifest { .. } if descriptor.is_attestation() => "attestation".to_owned(),
        NodeKind::Manifest { platform: Some(platform), .. } => platform.to_string(),
        NodeKind::Manifest { .. } => "manifest".to_owned(),
        NodeKind::Layer { .. } => "layer".to_owned(),
        NodeKind::Blob => role.to_owned(),
    };
    let state = match &node.kind {
        _ if !node.here => ", not here",
        NodeKind::Manifest { unpacked: Some(true), .. } => ", unpacked",
        _ => "",
    };
    let size = show_size(descriptor.size);
    lines.push((depth, format!("{role} {} {} ({size}{state})", descriptor.digest, descriptor.media_type)));
    if let NodeKind::Manifest { config: Some(config), layers, .. } = &node.kind {
        lines_of(config, "config", depth + 1, lines);
        layers.iter().for_each(|layer| lines_of(layer, "blob", depth + 1, lines));
    } else {
        node.children().into_iter().for_each(|child| lines_of(child, "blob", depth + 1, lines));
    }
}

const INSPECT: Spec = Spec {
    name: "inspect",
    on: On::Method,
    params: &[],
    options: &[
        Opt::new(
            "content",
            "bool",
            "Whether what the documents and configs say is in it, as `content`. Default false.",
        ),
        SNAPSHOTTER,
    ],
    access: Access::Read,
    doc: "Returns all content of the image, of whatever platform: index, manifests, configs and layers, and of each whether it is here.\n\n`print` and the prompt draw it as a tree; its properties and its JSON have all of it.",
    examples: &[
        Example::gives("image(\"busybox\").inspect().manifests[0].layers.all(|layer| layer.here)", "true"),
        Example::gives("let i = image(\"busybox\").inspect(); i.present == i.total", "true"),
        Example::gives("image(\"busybox\").inspect(#{ content: true }).manifests[0].config.content.os", "\"linux\""),
        Example::runs("print(image(\"busybox\").inspect())"),
    ],
};

fn inspect(call: &Call<'_>, image: ImageObject, options: Options) -> Result<InspectionObject> {
    let ctx = call.at(image.place());
    let named = options.string("snapshotter")?;
    let content = options.flag("content")?;
    let record = image.record();
    let root = call.wait(async {
        let snapshotter = ops::image::snapshotter(&ctx, named.as_deref()).await?;
        ops::image::inspect(&ctx, record, &InspectOptions { content, snapshotter }).await
    })?;
    let labels = record.labels.iter().map(|(key, value)| (key.into(), value.clone().into())).collect();
    Ok(InspectionObject { name: record.name.clone(), labels, root: Arc::new(root) })
}

/// Registers the function and the object.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<InspectionObject>();
    catalog.add(&INSPECT, inspect);
}
