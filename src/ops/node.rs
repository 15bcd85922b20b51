//! Reads about the daemon itself.

use crate::containerd::containers::Runtime;
use crate::containerd::introspection::{Deprecation, Plugin, RuntimeInfo, Server};
use crate::containerd::version::Version;
use crate::grant::Access;
use crate::ops::{Context, Error, Result};

/// Asks the daemon for its version.
///
/// # Errors
/// When there is no connection.
pub async fn version(ctx: &Context) -> Result<Version> {
    Ok(ctx.client().await?.version().await?)
}

/// Asks the daemon what it is as a process.
///
/// # Errors
/// When there is no connection.
pub async fn info(ctx: &Context) -> Result<Server> {
    Ok(ctx.client().await?.introspection().server().await?)
}

/// Lists the plugins that match any of containerd's filters, all without a filter.
///
/// # Errors
/// When a filter is not one, or there is no connection.
pub async fn plugins(ctx: &Context, filters: &[String]) -> Result<Vec<Plugin>> {
    Ok(ctx.client().await?.introspection().plugins(filters).await?)
}

/// Lists the features in use that will go; a daemon that does not watch for them lists none.
///
/// # Errors
/// When there is no connection.
pub async fn deprecations(ctx: &Context) -> Result<Vec<Deprecation>> {
    Ok(info(ctx).await?.deprecations)
}

/// Asks a runtime's shim what it is, by its name or by the path of its program, which takes access to the host.
///
/// # Errors
/// [`Error::Lacking`] when the daemon does not pass such questions on.
pub async fn runtime(ctx: &Context, runtime: &Runtime) -> Result<RuntimeInfo> {
    let name = runtime.name.as_str();
    let runc = runtime.options.as_ref();
    if runtime.config_path.is_some() && name.starts_with("io.containerd.runc.") {
        return Err(Error::argument("runtime_config_path", "is for runtimes that are no runc; name another one"));
    }
    let own = runc.is_some_and(|options| !options.binary_name.is_empty() || !options.root.is_empty());
    if own || runtime.config_path.is_some() || !name.starts_with("io.containerd.") {
        // The daemon runs it, as root.
        ctx.grant().check_access(Access::Host, "inspect runtime", name)?;
    }
    match ctx.client().await?.introspection().runtime(runtime).await {
        Err(error) if error.is_unsupported() => Err(Error::Lacking {
            daemon: ctx.place().daemon.endpoint().to_string(),
            what: "way to inspect a runtime",
            reason: "it does not serve Introspection/PluginInfo".into(),
            cure: "containerd does since 2.0".into(),
        }),
        other => Ok(other?),
    }
}
