//! Many things at the same time, of which some hang.

use libtest_mimic::Trial;

use super::stage::Stage;
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("ops::batch::a pull that hangs is cancelled and leaves nothing", env, hanging)]
}

fn hanging(env: &Env) {
    let stage = Stage::empty(env, "batch");
    let kind = Kind::Big(12);
    let image = env.image(kind);
    let stalled = env.pushed(kind, "batch");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let stalled = stalled.replace(&env.registry(), &proxy.host());
    proxy.fault("GET", &image.layers[1], 100, Fault::Stall(1 << 20));
    let before = stage.leftovers();
    let seen = stage.value(&format!(
        "let r = parallel([\"{stalled}\"], #{{ timeout: \"2s\", keep_going: true }}, |name| pull(name)); \
         [r.failed[0].item, r.failed[0].error.kind]"
    ));
    assert_eq!(seen, serde_json::json!([stalled, "timeout"]));
    assert_eq!(stage.leftovers(), before);
    proxy.forgive();
    let seen =
        stage.value(&format!("parallel([\"{stalled}\"], #{{ timeout: \"60s\" }}, |name| pull(name).digest).results"));
    assert_eq!(seen, serde_json::json!([image.digest]));
}
