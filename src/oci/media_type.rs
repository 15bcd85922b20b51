//! Media types of image documents and blobs (image-spec media-types.md; containerd core/images/mediatypes.go).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A media type, with the ones that ctrsh knows as variants and all others kept as they came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `application/vnd.oci.image.index.v1+json`.
    OciIndex,
    /// `application/vnd.oci.image.manifest.v1+json`.
    OciManifest,
    /// `application/vnd.oci.image.config.v1+json`.
    OciConfig,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`.
    DockerList,
    /// `application/vnd.docker.distribution.manifest.v2+json`.
    DockerManifest,
    /// `application/vnd.docker.container.image.v1+json`.
    DockerConfig,
    /// `application/vnd.docker.distribution.manifest.v1+json` or `…+prettyjws`.
    DockerSchema1,
    /// A filesystem layer.
    Layer(Layer),
    /// Anything else: an artifact, an attestation, an unknown type.
    Other(Box<str>),
}

/// A layer's media type, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layer {
    text: Box<str>,
    /// How the tar is compressed, as far as the type says; Docker's plain type may hold compressed bytes all the same.
    pub compression: Compression,
    /// Whether the layer may not be pushed (foreign or nondistributable).
    pub nondistributable: bool,
    /// Whether the layer is encrypted (ocicrypt).
    pub encrypted: bool,
}

/// How a layer or archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Reads how a file is compressed from the end of its name: `.gz`, `.tgz` or `.zst`.
    #[must_use]
    pub fn of_name(path: &std::path::Path) -> Self {
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("gz" | "tgz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl MediaType {
    /// What to send as `Accept` when asking for a manifest, in order of preference.
    pub const ACCEPT: &'static str = "application/vnd.docker.distribution.manifest.v2+json, \
         application/vnd.docker.distribution.manifest.list.v2+json, \
         application/vnd.oci.image.manifest.v1+json, \
         application/vnd.oci.image.index.v1+json, */*";

    /// Reads a media type, dropping parameters such as `; charset=utf-8`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.split(';').next().unwrap_or_default().trim();
        match text {
            "application/vnd.oci.image.index.v1+json" => Self::OciIndex,
            "application/vnd.oci.image.manifest.v1+json" => Self::OciManifest,
            "application/vnd.oci.image.config.v1+json" => Self::OciConfig,
            "application/vnd.docker.distribution.manifest.list.v2+json" => Self::DockerList,
            "application/vnd.docker.distribution.manifest.v2+json" => Self::DockerManifest,
            "application/vnd.docker.container.image.v1+json" => Self::DockerConfig,
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Self::DockerSchema1,
            _ => Layer::parse(text).map_or_else(|| Self::Other(text.into()), Self::Layer),
        }
    }

    /// Returns the text on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            Self::OciConfig => "application/vnd.oci.image.config.v1+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerConfig => "application/vnd.docker.container.image.v1+json",
            Self::DockerSchema1 => "application/vnd.docker.distribution.manifest.v1+json",
            Self::Layer(layer) => &layer.text,
            Self::Other(text) => text,
        }
    }

    /// Returns what OCI calls the same thing; what is not Docker's stays as it is (containerd
    /// core/images/converter/default.go, `ConvertDockerMediaTypeToOCI`).
    #[must_use]
    pub fn to_oci(&self) -> Self {
        match self {
            Self::DockerList => Self::OciIndex,
            Self::DockerManifest => Self::OciManifest,
            Self::DockerConfig => Self::OciConfig,
            Self::Layer(layer) => Self::Layer(layer.named(true, layer.compression)),
            other => other.clone(),
        }
    }

    /// Returns the media type of the same layer without its compression; what is no layer stays as it is.
    #[must_use]
    pub fn uncompressed(&self) -> Self {
        match self {
            Self::Layer(layer) => Self::Layer(layer.named(layer.is_oci(), Compression::None)),
            other => other.clone(),
        }
    }

    /// Returns whether it names a list of manifests.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }

    /// Returns whether it names one image's manifest.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }

    /// Returns whether it names an image config. Some old images call theirs `application/octet-stream`.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(self, Self::OciConfig | Self::DockerConfig)
    }

    /// Returns whether it names a filesystem layer.
    #[must_use]
    pub fn is_layer(&self) -> bool {
        matches!(self, Self::Layer(_))
    }
}

impl Layer {
    fn is_oci(&self) -> bool {
        self.text.starts_with("application/vnd.oci.")
    }

    /// Returns the type of a like layer.
    fn named(&self, oci: bool, compression: Compression) -> Self {
        let (base, sign) = match (oci, self.nondistributable) {
            (true, false) => ("application/vnd.oci.image.layer.v1.tar", '+'),
            (true, true) => ("application/vnd.oci.image.layer.nondistributable.v1.tar", '+'),
            (false, false) => ("application/vnd.docker.image.rootfs.diff.tar", '.'),
            (false, true) => ("application/vnd.docker.image.rootfs.foreign.diff.tar", '.'),
        };
        let ending = match compression {
            Compression::None => String::new(),
            Compression::Gzip => format!("{sign}gzip"),
            Compression::Zstd => format!("{sign}zstd"),
        };
        let encrypted = if self.encrypted { "+encrypted" } else { "" };
        Self { text: format!("{base}{ending}{encrypted}").into(), compression, ..self.clone() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (rest, nondistributable) = [
            ("application/vnd.docker.image.rootfs.diff.tar", false),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar", true),
            ("application/vnd.oci.image.layer.v1.tar", false),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", true),
        ]
        .into_iter()
        .find_map(|(prefix, foreign)| Some((text.strip_prefix(prefix)?, foreign)))?;
        let (rest, encrypted) = rest.strip_suffix("+encrypted").map_or((rest, false), |rest| (rest, true));
        let compression = match rest {
            "" => Compression::None,
            ".gzip" | "+gzip" => Compression::Gzip,
            ".zstd" | "+zstd" => Compression::Zstd,
            _ => return None,
        };
        Some(Self { text: text.into(), compression, nondistributable, encrypted })
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&std::borrow::Cow::<'de, str>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_survive_a_round_trip() {
        for text in [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.in-toto+json",
        ] {
            assert_eq!(MediaType::parse(text).as_str(), text);
        }
        assert_eq!(MediaType::parse("application/vnd.oci.image.index.v1+json; charset=utf-8"), MediaType::OciIndex);
    }

    #[test]
    fn layers_are_taken_apart() {
        let MediaType::Layer(layer) = MediaType::parse("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        else {
            panic!("not a layer");
        };
        assert!(layer.nondistributable);
        assert_eq!(layer.compression, Compression::Gzip);
    }

    #[test]
    fn dockers_types_have_names_in_oci_and_layers_lose_their_compression() {
        for (docker, oci) in [
            ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json"),
            ("application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
            ("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            ),
            ("application/vnd.in-toto+json", "application/vnd.in-toto+json"),
        ] {
            let converted = MediaType::parse(docker).to_oci();
            assert_eq!(converted, MediaType::parse(oci));
            assert_eq!(converted.to_oci(), converted);
        }
        for (layer, plain) in [
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar"),
            ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar"),
            ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.config.v1+json"),
        ] {
            assert_eq!(MediaType::parse(layer).uncompressed(), MediaType::parse(plain));
        }
    }
}
