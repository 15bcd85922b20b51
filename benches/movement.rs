//! Pulling and pushing.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::contest::{Contest, Rival};
use crate::image::Image;
use crate::stage::{Stage, done, installed};

/// One image with what is to be reached with it, against ctr unless said otherwise.
struct Load {
    name: &'static str,
    what: String,
    rounds: usize,
    /// The peak in MiB of whoever pulls or pushes it.
    peak: f64,
    pull: Option<f64>,
    fetch: Option<f64>,
    push: Option<f64>,
    /// To be pushed to an empty registry, against crane.
    push_beside_crane: Option<f64>,
    make: fn(&Stage) -> Image,
}

fn loads(stage: &Stage) -> Vec<Load> {
    let (real, big) = if stage.quick() { ("40 MB", "64 MiB") } else { ("283 MB", "1 GiB") };
    vec![
        Load {
            name: "tiny",
            what: "busybox, 1 layer".into(),
            rounds: stage.rounds(10),
            peak: 16.0,
            pull: Some(0.40),
            fetch: None,
            push: Some(0.35),
            push_beside_crane: Some(1.10),
            make: |stage| Image::tiny(stage.folder("tiny")),
        },
        Load {
            name: "real",
            what: format!("7 layers, {real}"),
            rounds: stage.rounds(5),
            peak: 32.0,
            pull: Some(0.90),
            fetch: Some(0.65),
            push: Some(0.65),
            push_beside_crane: Some(1.10),
            make: |stage| Image::real(stage.folder("real"), 7, if stage.quick() { 40_000_000 } else { 283_000_000 }),
        },
        Load {
            name: "big",
            what: format!("1 layer of {big}"),
            rounds: stage.rounds(5),
            peak: 32.0,
            pull: Some(0.85),
            fetch: Some(0.80),
            push: Some(0.80),
            push_beside_crane: Some(1.10),
            make: |stage| Image::big(stage.folder("big"), if stage.quick() { 64 } else { 1024 }),
        },
        Load {
            name: "layers",
            what: "100 tiny layers".into(),
            rounds: stage.rounds(3),
            peak: 32.0,
            pull: None,
            fetch: None,
            push: None,
            push_beside_crane: None,
            make: |stage| Image::many(stage.folder("layers"), 100),
        },
    ]
}

/// An image that is built when it is first needed, and then in the registry to pull from.
struct Published<'a> {
    stage: &'a Stage,
    name: &'static str,
    make: fn(&Stage) -> Image,
    made: OnceCell<(Image, String)>,
}

impl Published<'_> {
    fn get(&self) -> &(Image, String) {
        self.made.get_or_init(|| {
            let image = (self.make)(self.stage);
            let reference = self.stage.publish(&image, self.name);
            (image, reference)
        })
    }

    fn image(&self) -> &Image {
        &self.get().0
    }

    fn reference(&self) -> &str {
        &self.get().1
    }
}

/// Returns the workloads.
pub fn contests(stage: &Stage) -> Vec<Contest<'_>> {
    let mut contests = Vec::new();
    for load in loads(stage) {
        let image = Rc::new(Published { stage, name: load.name, make: load.make, made: OnceCell::new() });
        contests.push(pull(stage, &load, &image));
        if let Some(goal) = load.fetch {
            contests.push(fetch(stage, &load, goal, &image));
        }
        contests.push(push(stage, &load, &image));
        match load.name {
            "real" => contests.push(push_again(stage, &image)),
            "big" => contests.push(push_elsewhere(stage, &load, &image)),
            _ => {}
        }
    }
    contests
}

fn aim<'a>(rival: Rival<'a>, goal: Option<f64>, of: &'static str) -> Rival<'a> {
    match goal {
        Some(goal) => rival.within(goal, of),
        None => rival,
    }
}

fn pull<'a>(stage: &'a Stage, load: &Load, image: &Rc<Published<'a>>) -> Contest<'a> {
    let [first, second, third] = [(); 3].map(|()| Rc::clone(image));
    let ctr = Rival::new("ctr", move |_| stage.ctr(["images", "pull", "--plain-http", second.reference()]));
    let ours = Rival::ours("ctrsh", move |_| stage.ctrsh(&format!("pull(\"{}\")", third.reference())));
    let ours = aim(ours, load.pull, "ctr").peak(load.peak);
    let rivals = [ctr, ours].map(|rival| rival.after(|_| stage.empty())).into();
    Contest::new(format!("pull {}: cold, with unpacking; {}", load.name, load.what), load.rounds, rivals).set(
        move || {
            first.get();
        },
    )
}

fn fetch<'a>(stage: &'a Stage, load: &Load, goal: f64, image: &Rc<Published<'a>>) -> Contest<'a> {
    let [first, second, third] = [(); 3].map(|()| Rc::clone(image));
    let ctr = Rival::new("ctr", move |_| stage.ctr(["content", "fetch", "--plain-http", second.reference()]));
    let ours =
        Rival::ours("ctrsh", move |_| stage.ctrsh(&format!("pull(\"{}\", #{{ unpack: false }})", third.reference())));
    let rivals = [ctr, ours.within(goal, "ctr").peak(load.peak)];
    let rivals = rivals.map(|rival| rival.check(|_| stage.check_images(1)).after(|_| stage.empty())).into();
    Contest::new(format!("fetch {}: cold, without unpacking; {}", load.name, load.what), load.rounds, rivals).set(
        move || {
            first.get();
        },
    )
}

/// Makes who pushes an image to the targets of the round, each of which is tagged before. Where there are two, only the
/// second push is measured.
fn pushers<'a>(
    stage: &'a Stage,
    image: &Rc<Published<'a>>,
    targets: impl Fn(&str, usize) -> Vec<String> + Clone + 'a,
) -> Vec<Rival<'a>> {
    let of = |name: &'static str| {
        let targets = targets.clone();
        move |round: usize| targets(name, round)
    };
    let tag = |name: &'static str| {
        let (targets, image) = (of(name), Rc::clone(image));
        move |round: usize| {
            for target in targets(round) {
                done(stage.ctr(["images", "tag", "--force", image.reference(), &target]));
            }
        }
    };
    let targets = of("ctr");
    let ctr = Rival::new("ctr", move |round| {
        let push = |target| format!("ctr images push --plain-http {target}");
        stage.words(targets(round).into_iter().map(push))
    });
    let targets = of("ctrsh");
    let ours = Rival::ours("ctrsh", move |round| {
        let push = |target| format!("push(\"{target}\")");
        let pushes: Vec<String> = targets(round).into_iter().map(push).collect();
        stage.ctrsh(&pushes.join("; print(\"pushed\"); "))
    });
    let (targets, layout) = (of("skopeo"), Rc::clone(image));
    let skopeo = Rival::new("skopeo", move |round| {
        let push =
            |target| format!("skopeo copy --dest-tls-verify=false {} docker://{target}", layout.image().skopeo_name());
        stage.forgetful(stage.words(targets(round).into_iter().map(push)))
    });
    let mut rivals = vec![ctr.before(tag("ctr")), ours.before(tag("ctrsh")), skopeo];
    if installed("crane") {
        let (targets, layout) = (of("crane"), Rc::clone(image));
        rivals.push(Rival::new("crane", move |round| {
            let push = |target| format!("crane push --insecure {} {target}", layout.image().layout().display());
            stage.words(targets(round).into_iter().map(push))
        }));
    }
    rivals
}

/// Sets the goals of the one that is ours.
fn aims<'a>(rivals: Vec<Rival<'a>>, set: impl Fn(Rival<'a>) -> Rival<'a>) -> Vec<Rival<'a>> {
    rivals.into_iter().map(|rival| if rival.is_ours() { set(rival) } else { rival }).collect()
}

fn push_contest<'a>(
    stage: &'a Stage,
    name: String,
    rounds: usize,
    image: &Rc<Published<'a>>,
    rivals: Vec<Rival<'a>>,
) -> Contest<'a> {
    let here = Rc::clone(image);
    Contest::new(name, rounds, rivals).set(move || stage.pull(here.reference())).clear(|| {
        stage.empty();
        stage.empty_target();
    })
}

fn push<'a>(stage: &'a Stage, load: &Load, image: &Rc<Published<'a>>) -> Contest<'a> {
    let name = load.name;
    let rivals = pushers(stage, image, move |who, round| vec![format!("{}/{name}/{who}-{round}:1", stage.target())]);
    let rivals = aims(rivals, |ours| aim(aim(ours, load.push, "ctr"), load.push_beside_crane, "crane").peak(load.peak));
    let rivals = rivals.into_iter().map(|rival| rival.after(|_| stage.empty_target())).collect();
    push_contest(stage, format!("push {name}: cold, to an empty registry"), load.rounds, image, rivals)
}

fn push_again<'a>(stage: &'a Stage, image: &Rc<Published<'a>>) -> Contest<'a> {
    // The first round, which is not counted, sends it.
    let rivals = pushers(stage, image, move |who, _| vec![format!("{}/real-again/{who}:1", stage.target())]);
    let rivals = aims(rivals, |ours| ours.within(0.20, "ctr").within(1.5, "crane").peak(16.0));
    push_contest(stage, "push real again: all is there".into(), stage.rounds(10), image, rivals)
}

/// The same script pushes it to two repositories of one registry.
fn push_elsewhere<'a>(stage: &'a Stage, load: &Load, image: &Rc<Published<'a>>) -> Contest<'a> {
    let rivals = pushers(stage, image, move |who, round| {
        let target = |repository| format!("{}/{repository}/{who}-{round}:1", stage.target());
        vec![target("first"), target("second")]
    });
    let rivals = aims(rivals, |ours| {
        ["ctr", "skopeo", "crane"].into_iter().fold(ours.peak(load.peak), |ours, other| ours.within(0.05, other))
    });
    let rivals = rivals.into_iter().map(|rival| rival.prepares().after(|_| stage.empty_target())).collect();
    let name = format!("push {} elsewhere: to a second repository, after a first", load.name);
    push_contest(stage, name, stage.rounds(3), image, rivals)
}
