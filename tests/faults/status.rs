//! That lasting faults end the program with the right exit status.

use libtest_mimic::Trial;

use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("faults::exit statuses", env, statuses)]
}

/// A request that never goes well: method, part of the path, the fault, what is run, and the exit status.
type Case = (&'static str, &'static str, Fault, &'static str, i32);

fn statuses(env: &Env) {
    let pushed = env.pushed(Kind::Noise(301), "faults");
    let (_, name) = pushed.split_once('/').unwrap();
    let (pull, push) = ("pull(IMAGE)", "copy(SOURCE, TARGET)");
    let (many, caught) =
        ("migrate(#{ from: [SOURCE], to: BASE, keep_going: true })", "try { pull(IMAGE) } catch (e) { print(e.kind) }");
    let cases: [Case; 8] = [
        ("HEAD", "/manifests/", Fault::status(403), pull, 1),
        ("HEAD", "/manifests/", Fault::status(404), pull, 1),
        ("GET", "/blobs/", Fault::Corrupt(40), pull, 1),
        ("POST", "/blobs/uploads/", Fault::status(507), push, 6),
        ("PUT", "/manifests/", Fault::status(400), push, 1),
        ("PUT", "/manifests/", Fault::status(400), many, 3),
        ("GET", "/blobs/", Fault::status(404), "migrate(#{ from: [IMAGE], to: OTHER, keep_going: true })", 3),
        ("HEAD", "/manifests/", Fault::status(403), caught, 0),
    ];
    for (method, part, fault, script, status) in cases {
        let proxy = env.block_on(FaultProxy::start(&env.registry()));
        proxy.fault(method, part, usize::MAX, fault.clone());
        let (host, fresh) = (proxy.host(), env.fresh("faults"));
        let direct = env.registry();
        let script = format!(
            "const IMAGE = \"{host}/{name}\"; const SOURCE = \"{pushed}\"; const TARGET = \"{host}/{fresh}:v1\"; \
             const BASE = \"{host}/{fresh}\"; const OTHER = \"{direct}/{fresh}\"; {script}"
        );
        let output = Output::of(env.ctrsh_command().args(["-n", &env.fresh("faults"), "-e", &script]));
        assert_eq!(output.status, status, "{fault:?} at {method} {part} of {direct}: {output:?}");
        if status == 0 {
            assert_eq!(output.stdout, "unauthorized\n");
        } else if status != 3 {
            let error = output.stderr.lines().find(|line| line.starts_with("error: "));
            assert!(error.is_some_and(|error| error.contains(&host)), "{output:?}");
        }
    }
}
