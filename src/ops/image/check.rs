//! `check`: whether all the bytes of an image are here, and unpacked.

use crate::containerd::images::Image;
use crate::oci::{Descriptor, Matcher, Parsed, Platform};
use crate::ops::content::Held;
use crate::ops::image::detail::{document, image_config};
use crate::ops::{Context, Result, snapshot};

/// What is here of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The image.
    pub name: String,
    /// One entry for each image that its index lists, or for itself.
    pub platforms: Vec<PlatformCheck>,
    /// Whether the documents that say what it is made of are here.
    pub described: bool,
}

/// What is here of one platform's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformCheck {
    /// The platform, as far as is known.
    pub platform: Option<Platform>,
    /// Whether it is what this host would run.
    pub wanted: bool,
    /// The bytes of its manifest, config and layers that are here.
    pub present: u64,
    /// All their bytes, as far as is known.
    pub total: u64,
    /// What is not here.
    pub missing: Vec<Descriptor>,
    /// Whether the layers are unpacked in the snapshotter that was asked.
    pub unpacked: bool,
}

impl Check {
    /// Returns whether every image that the matcher wanted is here whole.
    #[must_use]
    pub fn complete(&self) -> bool {
        let mut wanted = self.platforms.iter().filter(|platform| platform.wanted).peekable();
        self.described && wanted.peek().is_some() && wanted.all(|platform| platform.missing.is_empty())
    }

    /// Returns whether every image that the matcher wanted is unpacked.
    #[must_use]
    pub fn unpacked(&self) -> bool {
        let mut wanted = self.platforms.iter().filter(|platform| platform.wanted).peekable();
        wanted.peek().is_some() && wanted.all(|platform| platform.unpacked)
    }
}

/// Looks at every document and blob of an image. Bytes are counted by what the store says, not read again.
///
/// # Errors
/// When a document is here and cannot be used, or there is no connection.
pub async fn check(ctx: &Context, image: &Image, matcher: &Matcher, snapshotter: &str) -> Result<Check> {
    let held = Held::new(ctx).await?;
    let mut found = Check { name: image.name.clone(), platforms: Vec::new(), described: true };
    let Some(parsed) = document(&held, &image.target).await? else {
        found.described = false;
        return Ok(found);
    };
    match parsed {
        Parsed::Manifest(_) => {
            let mut one = platform(&held, &image.target, None, snapshotter).await?;
            one.wanted = one.platform.as_ref().is_none_or(|platform| matcher.rank(platform).is_some());
            found.platforms.push(one);
        }
        Parsed::Index(index) => {
            let wanted = matcher.select(&index.manifests);
            for child in index.manifests.iter().filter(|child| child.media_type.is_manifest()) {
                let mut one = platform(&held, child, child.platform.clone(), snapshotter).await?;
                one.wanted = wanted.iter().any(|wanted| wanted.digest == child.digest);
                found.platforms.push(one);
            }
        }
    }
    Ok(found)
}

async fn platform(
    held: &Held,
    descriptor: &Descriptor,
    platform: Option<Platform>,
    snapshotter: &str,
) -> Result<PlatformCheck> {
    let mut found = PlatformCheck {
        platform,
        wanted: false,
        present: 0,
        total: descriptor.size,
        missing: Vec::new(),
        unpacked: false,
    };
    let Some(Parsed::Manifest(manifest)) = document(held, descriptor).await? else {
        found.missing.push(descriptor.clone());
        return Ok(found);
    };
    found.present += descriptor.size;
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        found.total += blob.size;
        match held.info(&blob.digest).await? {
            Some(info) => found.present += info.size,
            None => found.missing.push(blob.clone()),
        }
    }
    if let Some(config) = image_config(held, &manifest).await? {
        if found.platform.is_none() {
            found.platform = Some(config.platform.clone().normalized());
        }
        if let Some(top) = config.chain_ids().last() {
            found.unpacked = snapshot::is_there(held.context(), snapshotter, top.as_str()).await?;
        }
    }
    Ok(found)
}
