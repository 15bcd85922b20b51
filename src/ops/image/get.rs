//! `image`: looks one image up.

use crate::containerd::images::Image;
use crate::ops::image::full_name;
use crate::ops::{Context, Error, Result, Seen};

/// Finds the record of an image by its exact name, else by the full form of the name.
///
/// # Errors
/// [`Error::NotFound`] with the nearest name that exists.
pub async fn get(ctx: &Context, name: &str) -> Result<Image> {
    let full = full_name(name).ok().filter(|full| full != name);
    for candidate in std::iter::once(name).chain(full.as_deref()) {
        match ctx.overlay().get::<Image>(&ctx.place_name(), candidate) {
            Seen::As(image) => return Ok(image),
            Seen::Gone => continue,
            Seen::Unknown => {}
        }
        match ctx.client().await?.images().get(candidate).await {
            Ok(image) => return Ok(image),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let existing = super::list(ctx, &[]).await?;
    Err(match Error::not_found("image", name, existing.iter().map(|image| image.name.as_str())) {
        Error::NotFound { what, name, nearest, .. } => {
            let cure =
                Some(format!("pull(\"{name}\") fetches it, :ns shows the namespaces (this is {})", ctx.namespace()));
            Error::NotFound { what, name, nearest, cure }
        }
        other => other,
    })
}
