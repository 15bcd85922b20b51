//! The options that say how a registry is reached, and as whom.

use crate::grant::Access;
use crate::ops;
use crate::registry;
use crate::script::call::Call;
use crate::script::catalog::Opt;
use crate::script::error::Result;
use crate::script::options::Options;

pub(crate) const PLAIN_HTTP: Opt = Opt::new(
    "plain_http",
    "bool",
    "Whether to speak HTTP without TLS. Default false, except that a registry on loopback may.",
);
pub(crate) const SKIP_VERIFY: Opt =
    Opt::new("skip_verify", "bool", "Whether not to check the registry's certificate. Default false.");
pub(crate) const HOSTS_DIR: Opt = Opt::new(
    "hosts_dir",
    "string",
    "The folder with `hosts.toml` files. Default: `--hosts-dir`, else `/etc/containerd/certs.d`.",
);
pub(crate) const TLS_CA: Opt =
    Opt::new("tlscacert", "string", "A file with authorities to trust beside the system's, in PEM.");
pub(crate) const TLS_CERT: Opt = Opt::new("tlscert", "string", "A file with a client certificate, in PEM.");
pub(crate) const TLS_KEY: Opt = Opt::new("tlskey", "string", "A file with the client certificate's key, in PEM.");
pub(crate) const USER: Opt = Opt::new(
    "user",
    "string",
    "The user to log in as; the password is asked for on the terminal, or comes from `password_stdin`, `password_file` or `password_env`. Default: Docker's config file and its helpers.",
);
pub(crate) const PASSWORD_FILE: Opt =
    Opt::new("password_file", "string", "A file with the password. Needs `files` or `host` access.");
pub(crate) const PASSWORD_STDIN: Opt =
    Opt::new("password_stdin", "bool", "Whether the password is the next line of standard input.");
pub(crate) const PASSWORD_ENV: Opt =
    Opt::new("password_env", "string", "The environment variable with the password. Needs `host` access.");

/// The options of everything that asks a registry and has no others.
pub(crate) const REACH: &[Opt] =
    &[USER, PASSWORD_STDIN, PASSWORD_FILE, PASSWORD_ENV, PLAIN_HTTP, SKIP_VERIFY, HOSTS_DIR, TLS_CA, TLS_CERT, TLS_KEY];

/// Reads the options that say how a registry is reached.
pub(crate) fn registry_options(call: &Call<'_>, options: &Options) -> Result<registry::Options> {
    let path = |key: &'static str| -> Result<Option<std::path::PathBuf>> {
        Ok(options.string(key)?.map(|path| call.ctx().settings().working_dir.join(path)))
    };
    let client = match (path("tlscert")?, path("tlskey")?) {
        (Some(cert), key) => Some((cert, key)),
        (None, None) => None,
        (None, Some(_)) => return Err(options.bad("tlskey", "needs 'tlscert' beside it")),
    };
    Ok(registry::Options {
        credential: credential(call, options)?,
        plain_http: options.flag("plain_http")?,
        skip_verify: options.flag("skip_verify")?,
        hosts_dirs: path("hosts_dir")?.map(|folder| vec![folder]),
        tls: registry::config::Tls { ca: path("tlscacert")?.into_iter().collect(), client },
    })
}

/// Reads the user and the password of a call, if it has any.
pub(super) fn credential(call: &Call<'_>, options: &Options) -> Result<Option<registry::Credential>> {
    let file = options.string("password_file")?;
    let variable = options.string("password_env")?;
    let Some(user) = options.string("user")? else {
        return match file.is_some() || variable.is_some() {
            true => Err(options.bad("user", "is missing beside the password")),
            false => Ok(None),
        };
    };
    if user.contains(':') {
        return Err(options.bad("user", "is a name alone; a password does not belong into a script"));
    }
    let password = match (file, variable) {
        (Some(path), None) => {
            let text = call.wait(ops::host::read(call.ctx(), &path))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, Some(name)) => {
            call.ctx()
                .grant()
                .check_access(Access::Host, "reading the environment", &name)
                .map_err(ops::Error::from)?;
            let value = call.session().environment(&name);
            value.ok_or_else(|| options.bad("password_env", format!("names {name}, which is not set")))?
        }
        (None, None) => {
            let sink = call.session().sink();
            let asked = if options.flag("password_stdin")? {
                sink.secret_line()
            } else {
                sink.ask_secret(&format!("password of {user}: "))
            };
            let missing =
                "needs a password: there is no terminal to ask on; give password_stdin, password_file or password_env";
            asked.ok_or_else(|| options.bad("user", missing))?
        }
        (Some(_), Some(_)) => return Err(options.bad("password_env", "and 'password_file' cannot both be given")),
    };
    Ok(Some(registry::Credential::password(user, password)))
}
