//! Containers, from their making to their end.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::contest::{Contest, Rival};
use crate::image::Image;
use crate::stage::{Stage, done};

/// Makes an image to run, once, and has it in the namespace while a contest runs.
struct Runnable<'a> {
    stage: &'a Stage,
    made: OnceCell<String>,
}

impl Runnable<'_> {
    fn reference(&self) -> String {
        format!("{}/containers:1", self.stage.source())
    }

    fn set(&self) {
        self.made.get_or_init(|| self.stage.publish(&Image::tiny(self.stage.folder("containers")), "containers"));
        self.stage.pull(&self.reference());
    }
}

/// Returns the workloads.
pub fn contests(stage: &Stage) -> Vec<Contest<'_>> {
    let image = Rc::new(Runnable { stage, made: OnceCell::new() });
    let contests =
        vec![life(stage, &image), only_run(stage, &image), many(stage, &image, false), many(stage, &image, true)];
    let set = contests.into_iter().map(|contest| {
        let image = Rc::clone(&image);
        contest.set(move || image.set()).clear(move || stage.empty())
    });
    set.collect()
}

/// The whole life of a container in bash. `task kill` returns before the task has ended, and `task rm` refuses until then.
fn whole_life(image: &Runnable<'_>) -> String {
    format!(
        "ctr run -d {} $id sleep 1000; ctr task metrics $id; ctr task kill -s KILL $id; \
         until ctr task rm $id 2>/dev/null; do :; done; ctr container rm $id",
        image.reference()
    )
}

/// The same in ctrsh.
fn whole_life_of_ours(image: &Runnable<'_>) -> String {
    format!(
        "let c = create(id, \"{}\", #{{ args: [\"sleep\", \"1000\"] }}); c.start(); c.metrics(); c.kill(\"KILL\"); \
         c.wait(); c.delete();",
        image.reference()
    )
}

/// Makes ids that no other container of this host has: all daemons share the folder of the shims.
fn id(who: &str) -> String {
    format!("bench-{who}-{}", std::process::id())
}

fn life<'a>(stage: &'a Stage, image: &Runnable<'_>) -> Contest<'a> {
    let ctr = format!("id={}; {}", id("ctr"), whole_life(image));
    let ctrsh = format!("let id = \"{}\"; {}", id("ctrsh"), whole_life_of_ours(image));
    let rivals = vec![
        Rival::new("ctr", move |_| stage.bash(&ctr)),
        Rival::ours("ctrsh", move |_| stage.ctrsh(&ctrsh)).within(0.65, "ctr").peak(16.0),
    ];
    Contest::new("container: create, start, metrics, kill, delete", stage.rounds(10), rivals)
}

fn only_run<'a>(stage: &'a Stage, image: &Runnable<'_>) -> Contest<'a> {
    let (ctr, ctrsh, reference) = (id("ctr"), id("ctrsh"), image.reference());
    let delete = |id: &str| {
        let id = id.to_owned();
        move |_| {
            let running =
                stage.bash(&format!("test \"$(ctr task ls | awk '$1 == \"{id}\" {{ print $3 }}')\" = RUNNING"));
            done(running);
            done(stage.bash(&format!("ctr task rm -f {id}; ctr container rm {id}")));
        }
    };
    let (delete_ctr, delete_ctrsh) = (delete(&ctr), delete(&ctrsh));
    let script = format!("run(\"{reference}\", #{{ id: \"{ctrsh}\", detach: true, args: [\"sleep\", \"1000\"] }})");
    let rivals = vec![
        Rival::new("ctr", move |_| stage.ctr(["run", "-d", &reference, &ctr, "sleep", "1000"])).after(delete_ctr),
        Rival::ours("ctrsh", move |_| stage.ctrsh(&script)).within(0.90, "ctr").peak(16.0).after(delete_ctrsh),
    ];
    Contest::new("container: run in the background", stage.rounds(10), rivals)
}

/// Fifty whole lives: one after another, or four at a time.
fn many<'a>(stage: &'a Stage, image: &Runnable<'_>, parallel: bool) -> Contest<'a> {
    let count = if stage.quick() { 12 } else { 50 };
    let (ctr, ctrsh, life) = (id("ctr"), id("ctrsh"), whole_life(image));
    let r#loop = format!("for n in $(seq {count}); do id={ctr}-$n; {life}; done");
    let xargs = format!("seq {count} | xargs -P4 -I@ bash -euc 'id={ctr}-@; {life}'");
    let lives = whole_life_of_ours(image);
    let none_left = move |_| done(stage.bash("test -z \"$(ctr containers ls -q)\""));
    let mut rivals = vec![Rival::new("ctr, loop", move |_| stage.bash(&r#loop)).check(none_left)];
    let ours = if parallel {
        rivals.push(Rival::new("ctr, xargs -P4", move |_| stage.bash(&xargs)).check(none_left));
        let script = format!(
            "let ids = []; for n in 0..{count} {{ ids.push(`{ctrsh}-${{n}}`) }} parallel(ids, |id| {{ {lives} }});"
        );
        Rival::ours("ctrsh", move |_| stage.ctrsh(&script)).within(0.40, "ctr, loop").within(0.75, "ctr, xargs -P4")
    } else {
        let script = format!("for n in 0..{count} {{ let id = `{ctrsh}-${{n}}`; {lives} }}");
        Rival::ours("ctrsh", move |_| stage.ctrsh(&script)).within(0.65, "ctr, loop")
    };
    rivals.push(ours.peak(32.0).check(none_left));
    let how = if parallel { "four at a time" } else { "one after another" };
    Contest::new(format!("container: {count} of them, {how}"), stage.rounds(3), rivals)
}
