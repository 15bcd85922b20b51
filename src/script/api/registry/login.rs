//! `login` and `logout`.

use super::options::{REACH, credential, registry_options};
use crate::grant::Access;
use crate::ops;
use crate::ops::registry::{Address, LoggedIn};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Param, Spec};
use crate::script::error::Result;
use crate::script::object::{Field, Object};
use crate::script::options::Options;
use crate::script::value::Name;

/// What a login came to.
#[derive(Clone)]
struct LoginObject(LoggedIn);

impl Object for LoginObject {
    const TYPE: &'static str = "Login";
    const DOC: &'static str = "What a login came to.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<LoginObject>;
        const FIELDS: &[F] = &[
            F::column("registry", "string", "The registry, `HOST[:PORT]`.", |l, _| Ok(l.0.registry.clone().into())),
            F::column("user", "string", "The user.", |l, _| Ok(l.0.user.clone().into())),
            F::column("kept_in", "string", "Where the credentials are kept: Docker's file, or a helper.", |l, _| {
                Ok(l.0.keeper.clone().into())
            }),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        Some(format!("{} at {}", self.0.user, self.0.registry))
    }
}

const LOGIN: Spec = Spec {
    name: "login",
    on: On::Free,
    params: &[Param::new("host")],
    options: REACH,
    access: Access::Write,
    doc: "Logs in at a registry: checks the user and the password there and keeps them where Docker does, for all later calls and for other programs.\n\nThat is the credential helper that Docker's config file names for the registry, else the file itself, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, which is replaced whole, for its owner alone, and keeps all else that is in it. Credentials that the registry refuses are not kept. The password is never part of a script: it is asked for on the terminal, or comes from `password_stdin`, `password_file` or `password_env`. An identity token is the password of the user `<token>`. Needs `write` access to `HOST[:PORT]`, not `host` access for the file.",
    examples: &[Example::gives(
        "write_file(\"password\", \"secret\"); login(REGISTRY, #{ user: \"ann\", password_file: \"password\" }).user",
        "\"ann\"",
    )],
};

fn login(call: &Call<'_>, host: Name, mut options: Options) -> Result<LoginObject> {
    let address = Address::parse(&host.0)?;
    let Some(credential) = credential(call, &options)? else {
        return Err(options.bad("user", "is missing: login needs a user"));
    };
    // A password is asked for once.
    options.forget(&["user", "password_stdin", "password_file", "password_env"]);
    let reach = registry_options(call, &options)?;
    call.run(ops::registry::Login::new(address.host(), credential, reach)).map(LoginObject)
}

const LOGOUT: Spec = Spec {
    name: "logout",
    on: On::Free,
    params: &[Param::new("host")],
    options: &[],
    access: Access::Write,
    doc: "Forgets the credentials that are kept for a registry, in Docker's config file or by its helper. Returns whether there were any.\n\nNeeds `write` access to `HOST[:PORT]`.",
    examples: &[Example::gives("logout(\"registry.example\")", "false")],
};

fn logout(call: &Call<'_>, host: Name) -> Result<bool> {
    let address = Address::parse(&host.0)?;
    call.run(ops::registry::Logout::new(address.host()))
}

/// Registers the functions.
pub(super) fn register(catalog: &mut Catalog) {
    catalog.add_object::<LoginObject>();
    catalog.add(&LOGIN, login);
    catalog.add(&LOGOUT, logout);
}
