//! Starting, listing, tagging: what costs a process or a few requests.

use crate::contest::{Contest, Rival};
use crate::image::Image;
use crate::stage::{Stage, done};

/// Returns the workloads.
pub fn contests(stage: &Stage) -> Vec<Contest<'_>> {
    vec![start(stage), tags(stage), list(stage, false), list(stage, true)]
}

fn start(stage: &Stage) -> Contest<'_> {
    let rivals = vec![
        Rival::new("ctr", |_| stage.ctr(["version"])),
        Rival::ours("ctrsh", |_| stage.ctrsh("version().server")).within(0.45, "ctr").peak(12.0),
    ];
    Contest::new("start: one line that asks for the daemon's version", stage.rounds(30), rivals)
}

fn tags(stage: &Stage) -> Contest<'_> {
    const NAME: &str = "example.com/tags/box";
    let clear = || done(stage.bash("ctr images ls -q name~=tagged | xargs -r ctr images rm >/dev/null"));
    let script = format!("for n in 0..200 {{ tag(\"{NAME}:1\", `example.com/tags/tagged:${{n}}`) }}");
    let r#loop = format!("for n in $(seq 0 199); do ctr images tag {NAME}:1 example.com/tags/tagged:$n; done");
    let rivals = vec![
        Rival::new("ctr", move |_| stage.bash(&r#loop)).after(move |_| clear()),
        Rival::ours("ctrsh", move |_| stage.ctrsh(&script)).within(0.10, "ctr").peak(16.0).after(move |_| clear()),
    ];
    let set = || {
        let image = Image::tiny(stage.folder("tagged"));
        let reference = stage.publish(&image, "tagged");
        stage.pull(&reference);
        done(stage.ctr(["images", "tag", &reference, &format!("{NAME}:1")]));
    };
    Contest::new("tags: 200 of them, in a script and in a bash loop", stage.rounds(5), rivals)
        .set(set)
        .clear(|| stage.empty())
}

fn list(stage: &Stage, names_only: bool) -> Contest<'_> {
    let images = if stage.quick() { 200 } else { 2000 };
    let set = move || {
        let archive = Image::fleet(stage.folder(&format!("listed-{names_only}")), images);
        done(stage.ctr(["images", "import", "--no-unpack", &archive.to_string_lossy()]));
    };
    let (ctr, ours) = if names_only {
        let script = "for i in images() { print(i.name) }";
        let ours = Rival::ours("ctrsh", |_| stage.ctrsh(script)).within(1.0, "ctr");
        (Rival::new("ctr", |_| stage.ctr(["images", "ls", "-q"])), ours)
    } else {
        let ours = Rival::ours("ctrsh", |_| stage.ctrsh("images()")).within(0.35, "ctr");
        (Rival::new("ctr", |_| stage.ctr(["images", "ls"])), ours)
    };
    let what = if names_only { "names" } else { "names, sizes and platforms" };
    Contest::new(format!("list: {what} of {images} different images"), stage.rounds(5), vec![ctr, ours])
        .set(set)
        .clear(|| stage.empty())
}
