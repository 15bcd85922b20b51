//! `ctr sandboxes`.

use super::parse::Parsed;
use super::source::{Map, call, one_or_array};
use super::table::{ANY, COMMAND, Command, Form, Tier, Value, many, one, option, script, switch};
use super::{Result, Step};

const GROUP: &str = "sandboxes";
const B: Tier = Tier::B;

fn list(p: &Parsed) -> Result<Vec<Step>> {
    let filters = p.values("filters");
    let filters = if filters.is_empty() { Vec::new() } else { vec![one_or_array(&filters)] };
    script(call("sandboxes::list", &filters, &Map::default()))
}

fn run(p: &Parsed) -> Result<Vec<Step>> {
    let mut options = Map::default();
    options.set("spec", format!("read_json({})", p.text(0)));
    options.extend(p.options()?);
    script(call("sandboxes::run", &[p.text(1)], &options))
}

fn remove(p: &Parsed) -> Result<Vec<Step>> {
    script(call("sandboxes::delete", &[one_or_array(p.args())], &p.options()?))
}

/// The commands.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        group: GROUP,
        names: &["list", "ls"],
        id: "B1",
        tier: B,
        usage: "[--filters FILTER]",
        flags: &[&[many("filters", "id==pod", B, Form::Own)]],
        make: list,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["run", "create", "c", "r"],
        id: "B2",
        tier: B,
        usage: "[--runtime NAME] SPEC-FILE ID",
        count: (2, 2),
        sample: &["pod.json", "pod"],
        flags: &[&[one("runtime", "io.containerd.runc.v2", B, option(Value::Text))]],
        make: run,
        ..COMMAND
    },
    Command {
        group: GROUP,
        names: &["remove", "rm"],
        id: "B3",
        tier: B,
        usage: "[--force] ID…",
        count: (1, ANY),
        sample: &["pod"],
        flags: &[&[switch("force", B, option(Value::Switch)).or("f")]],
        make: remove,
        ..COMMAND
    },
];
