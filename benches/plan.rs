//! A migration of thousands of images: that it is planned, and goes on, in little memory.

use std::rc::Rc;

use crate::contest::{Contest, Rival};
use crate::fleet::{Fleet, Lazy};
use crate::stage::{PLAIN, Stage};

/// MiB.
const PEAK: f64 = 128.0;

/// Returns the workloads.
pub fn contests(stage: &Stage) -> Vec<Contest<'_>> {
    let count = if stage.quick() { 1000 } else { 10_000 };
    let fleet = Rc::new(Lazy::new(stage, "many", count, Fleet::many));
    vec![plan(stage, &fleet), resume(stage, &fleet)]
}

fn set<'a>(stage: &'a Stage, fleet: &Rc<Lazy<'a>>) -> impl Fn() + 'a {
    let fleet = Rc::clone(fleet);
    move || {
        fleet.get().put(&stage.storage(PLAIN.0), usize::MAX);
        fleet.get().list(&stage.folder("lists").join("many"), &stage.source());
    }
}

/// The migration of all that the list names.
fn migrate(stage: &Stage, more: &str) -> String {
    let list = stage.folder("lists").join("many");
    format!("migrate(#{{ from: \"file:{}\", to: \"{}\"{more} }})", list.display(), stage.target())
}

/// A dry run, with nothing in the target.
fn plan<'a>(stage: &'a Stage, fleet: &Rc<Lazy<'a>>) -> Contest<'a> {
    let ours = Rival::ours("ctrsh", move |_| stage.ctrsh_dry(&migrate(stage, "")));
    let name = format!("migrate: a dry run of {} images", fleet.count());
    Contest::new(name, stage.rounds(3), vec![ours.peak(PEAK)]).without_warm_up().set(set(stage, fleet))
}

/// A run that goes on: nine of ten are there.
fn resume<'a>(stage: &'a Stage, fleet: &Rc<Lazy<'a>>) -> Contest<'a> {
    let there = fleet.count() / 10 * 9;
    let [here, checked] = [(); 2].map(|()| Rc::clone(fleet));
    let journal = stage.folder("lists").join("journal");
    let more = format!(", journal: \"{}\"", journal.display());
    let ours = Rival::ours("ctrsh", move |_| stage.ctrsh(&migrate(stage, &more)))
        .before(move |_| here.get().put(&stage.storage(PLAIN.1), there))
        .check(move |_| checked.get().check(&stage.storage(PLAIN.1)))
        .after(move |_| {
            stage.empty_target();
            std::fs::remove_file(&journal).unwrap();
        });
    let name = format!("migrate: {} images with a journal, {there} of them are there", fleet.count());
    Contest::new(name, stage.rounds(3), vec![ours.peak(PEAK)]).without_warm_up().set(set(stage, fleet))
}
