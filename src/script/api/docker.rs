//! `docker`: a Docker Engine, and its images as sources of `copy`.

use std::sync::Arc;

use rhai::{Array, Dynamic, Map};

use crate::docker::{Address, Image};
use crate::grant::Access;
use crate::kind::BoxFailure;
use crate::ops::image::Endpoint;
use crate::ops::{self, docker};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::time::Time;

/// A Docker Engine, as a value.
#[derive(Clone)]
pub(crate) struct DockerObject {
    /// Where it listens, when not where the settings say.
    address: Option<Address>,
    /// Where that is.
    shown: Address,
}

impl DockerObject {
    /// Returns what `migrate` calls all of its images.
    pub(crate) fn images(&self) -> String {
        self.address.as_ref().map_or_else(|| "docker:".to_owned(), |a| format!("docker:[{}]", a.path().display()))
    }
}

impl Object for DockerObject {
    const TYPE: &'static str = "Docker";
    const DOC: &'static str = "A Docker Engine: a source of images.";

    fn fields() -> &'static [Field<Self>] {
        const FIELDS: &[Field<DockerObject>] =
            &[Field::column("address", "string", "Where it listens.", |docker, _| Ok(docker.shown.to_string().into()))];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        Some(self.shown.to_string())
    }
}

/// An image of an engine.
#[derive(Clone)]
pub(crate) struct DockerImageObject {
    image: Arc<Image>,
    address: Option<Address>,
}

impl DockerImageObject {
    fn new(image: Image, docker: &DockerObject) -> Self {
        Self { image: Arc::new(image), address: docker.address.clone() }
    }

    /// Returns what `copy` calls it.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Docker { engine: self.address.clone(), name: self.label().to_owned() }
    }

    fn label(&self) -> &str {
        self.image.names.first().map_or(self.image.id.as_str(), String::as_str)
    }
}

fn strings(items: &[String]) -> Dynamic {
    items.iter().map(|item| Dynamic::from(item.clone())).collect::<Array>().into()
}

impl Object for DockerImageObject {
    const TYPE: &'static str = "DockerImage";
    const DOC: &'static str = "An image of a Docker Engine. Given to `copy` it stands for its endpoint, `docker:NAME`.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<DockerImageObject>;
        const FIELDS: &[F] = &[
            F::column("name", "string", "Its first name, as Docker writes it, or its id when it has none.", |i, _| {
                Ok(i.label().to_owned().into())
            }),
            F::field("names", "array", "All its names with tags.", |i, _| Ok(strings(&i.image.names))),
            F::column(
                "id",
                "string",
                "The digest of its config; with containerd's image store, that of its manifest or index.",
                |i, _| Ok(i.image.id.to_string().into()),
            )
            .unit(Unit::Digest),
            F::field("digests", "array", "Its names with the digests that registries know it by.", |i, _| {
                Ok(strings(&i.image.digests))
            }),
            F::column("size", "int", "Bytes of its files, unpacked.", |i, _| {
                Ok(i64::try_from(i.image.size).unwrap_or(i64::MAX).into())
            })
            .unit(Unit::Bytes),
            F::column("created", "Time", "When it was built, or `()` when it does not say.", |i, _| {
                Ok(i.image.created.map_or(Dynamic::UNIT, |time| Dynamic::from(Time(time))))
            })
            .unit(Unit::Time),
            F::field("labels", "map", "The labels of its config.", |i, _| {
                Ok(i.image.labels.iter().map(|(k, v)| (k.into(), v.clone().into())).collect::<Map>().into())
            }),
            F::on_demand("platform", "string", "What it runs on, such as `linux/amd64`, or `()`.", |i, session| {
                let ctx = session.context();
                let image = session.wait(&ctx, docker::image(&ctx, i.address.as_ref(), i.image.id.as_str()))?;
                Ok(image.platform.map_or(Dynamic::UNIT, |platform| platform.to_string().into()))
            }),
            F::field("endpoint", "string", "What `copy` calls it.", |i, _| Ok(i.endpoint().to_string().into())),
        ];
        FIELDS
    }

    fn name(&self) -> Option<String> {
        Some(self.endpoint().to_string())
    }

    fn text(&self) -> Option<String> {
        Some(self.label().to_owned())
    }
}

const DOCKER: Spec = Spec {
    name: "docker",
    on: On::Free,
    params: &[Param::new("address")],
    options: &[],
    access: Access::Read,
    doc: "Returns the Docker Engine that listens on a socket: the one of `--docker-host` or `DOCKER_HOST`, else `unix:///var/run/docker.sock`.\n\nOnly Unix sockets are reached. `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST` brings the engine of another machine here.",
    examples: &[Example::gives("docker().address.starts_with(\"unix:///\")", "true")],
};

fn docker_engine(call: &Call<'_>, address: Option<String>) -> Result<DockerObject> {
    let address = address.map(|text| Address::parse(&text)).transpose();
    let address = address.map_err(|error| ops::Error::from(BoxFailure::from(error)))?;
    let engine = docker::engine(call.ctx(), address.as_ref())?;
    Ok(DockerObject { shown: engine.address().clone(), address })
}

const IMAGES: Spec = Spec {
    name: "images",
    on: On::Method,
    params: &[],
    options: &[],
    access: Access::Read,
    doc: "Lists the images of the engine, sorted by name, each once with all its names.",
    examples: &[
        Example::gives("docker().images().some(|i| i.names.contains(\"example/box:1\"))", "true"),
        Example::runs("for image in docker().images() { print(`${image.name} has ${image.size} bytes`) }"),
    ],
};

fn images(call: &Call<'_>, engine: DockerObject) -> Result<Vec<DockerImageObject>> {
    let images = call.wait(docker::images(call.ctx(), engine.address.as_ref()))?;
    Ok(images.into_iter().map(|image| DockerImageObject::new(image, &engine)).collect())
}

const IMAGE: Spec = Spec {
    name: "image",
    on: On::Method,
    params: &[Param::new("name")],
    options: &[],
    access: Access::Read,
    doc: "Returns an image of the engine by its name, id or the beginning of its id, as `docker image inspect` takes it.",
    examples: &[Example::gives("docker().image(\"example/box:1\").names.contains(\"example/box:1\")", "true")],
};

fn image(call: &Call<'_>, engine: DockerObject, name: String) -> Result<DockerImageObject> {
    let image = call.wait(docker::image(call.ctx(), engine.address.as_ref(), &name))?;
    Ok(DockerImageObject::new(image, &engine))
}

/// Registers the functions and objects of Docker Engines.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<DockerObject>();
    catalog.add_object::<DockerImageObject>();
    catalog.add(&DOCKER, docker_engine);
    catalog.add(&IMAGES, images);
    catalog.add(&IMAGE, image);
}
