//! The containerd layer against a real daemon, and what it leaves compared with what `ctr` leaves.

mod connect;
mod content;
mod guard;
mod resources;
mod unpack;

use ctrsh::containerd::{self, Client, ConnectOptions, Endpoint};
use ctrsh::grant::{Allow, Grant};
use libtest_mimic::Trial;
use tokio_util::sync::CancellationToken;

use crate::harness::Env;

/// The tests of the layer.
pub fn trials(env: &Env) -> Vec<Trial> {
    let areas =
        [connect::trials(env), content::trials(env), guard::trials(env), resources::trials(env), unpack::trials(env)];
    areas.into_iter().flatten().collect()
}

/// A grant of everything.
pub(crate) fn grant() -> Grant {
    Grant::new(Allow::all(), CancellationToken::new())
}

/// A client of the shared daemon in a namespace of its own.
pub(crate) async fn client(env: &Env, area: &str) -> Client {
    let endpoint = Endpoint::parse(env.socket().to_str().unwrap()).unwrap();
    let node = containerd::connect(endpoint, ConnectOptions::default()).await.unwrap();
    node.client(&env.namespace(area), &grant()).unwrap()
}
