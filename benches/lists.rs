//! Starting, listing, tagging: what costs a process or a few requests.

use crate::contest::{Bar, Contest, Rival, Who};
use crate::image::Image;
use crate::stage::{Stage, done};

/// Returns the workloads.
pub fn contests(stage: &Stage) -> Vec<Contest<'_>> {
    vec![start(stage), tags(stage), list(stage, false), list(stage, true)]
}

fn start(stage: &Stage) -> Contest<'_> {
    Contest {
        name: "start: one line that asks for the daemon's version".into(),
        rounds: stage.rounds(30),
        bar: Bar { ratio: Some(0.45), peak: Some(12.0) },
        set: Box::new(|| {}),
        rivals: vec![
            Rival::new(Who::Ctr, |_| stage.ctr(["version"])),
            Rival::new(Who::Ctrsh, |_| stage.ctrsh("version().server")),
        ],
        clear: Box::new(|| {}),
    }
}

fn tags(stage: &Stage) -> Contest<'_> {
    const NAME: &str = "example.com/tags/box";
    let clear = || done(stage.bash("ctr images ls -q name~=tagged | xargs -r ctr images rm >/dev/null"));
    let script = format!("for n in 0..200 {{ tag(\"{NAME}:1\", `example.com/tags/tagged:${{n}}`) }}");
    let r#loop = format!("for n in $(seq 0 199); do ctr images tag {NAME}:1 example.com/tags/tagged:$n; done");
    Contest {
        name: "tags: 200 of them, in a script and in a bash loop".into(),
        rounds: stage.rounds(5),
        bar: Bar { ratio: Some(0.10), peak: Some(16.0) },
        set: Box::new(|| {
            let image = Image::tiny(stage.folder("tags"));
            let reference = stage.publish(&image, "tags");
            stage.pull(&reference);
            done(stage.ctr(["images", "tag", &reference, &format!("{NAME}:1")]));
        }),
        rivals: vec![
            Rival::new(Who::Ctr, move |_| stage.bash(&r#loop)).after(move |_| clear()),
            Rival::new(Who::Ctrsh, move |_| stage.ctrsh(&script)).after(move |_| clear()),
        ],
        clear: Box::new(|| stage.empty()),
    }
}

fn list(stage: &Stage, names_only: bool) -> Contest<'_> {
    let images = if stage.quick() { 200 } else { 2000 };
    let set = move || {
        let archive = Image::fleet(stage.folder(&format!("fleet-{names_only}")), images);
        done(stage.ctr(["images", "import", "--no-unpack", &archive.to_string_lossy()]));
    };
    let rivals = if names_only {
        vec![
            Rival::new(Who::Ctr, |_| stage.ctr(["images", "ls", "-q"])),
            Rival::new(Who::Ctrsh, |_| stage.ctrsh("for i in images() { print(i.name) }")),
        ]
    } else {
        vec![Rival::new(Who::Ctr, |_| stage.ctr(["images", "ls"])), Rival::new(Who::Ctrsh, |_| stage.ctrsh("images()"))]
    };
    let what = if names_only { "names" } else { "names, sizes and platforms" };
    Contest {
        name: format!("list: {what} of {images} different images"),
        rounds: stage.rounds(5),
        bar: Bar { ratio: Some(if names_only { 1.0 } else { 0.35 }), peak: None },
        set: Box::new(set),
        rivals,
        clear: Box::new(|| stage.empty()),
    }
}
