//! Pulling and pushing.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::contest::{Bar, Contest, Rival, Who};
use crate::image::Image;
use crate::stage::{Stage, done, installed};

/// One image with what is to be reached with it.
struct Load {
    name: &'static str,
    what: String,
    rounds: usize,
    pull: Bar,
    push: Option<Bar>,
    make: fn(&Stage) -> Image,
}

const SMALL: f64 = 16.0;
const LARGE: f64 = 32.0;

fn bar(ratio: f64, peak: f64) -> Bar {
    Bar { ratio: Some(ratio), peak: Some(peak) }
}

fn loads(stage: &Stage) -> Vec<Load> {
    let (real, big) = if stage.quick() { ("40 MB", "64 MiB") } else { ("283 MB", "1 GiB") };
    vec![
        Load {
            name: "tiny",
            what: "busybox, 1 layer".into(),
            rounds: stage.rounds(10),
            pull: bar(0.40, SMALL),
            push: Some(bar(0.35, SMALL)),
            make: |stage| Image::tiny(stage.folder("tiny")),
        },
        Load {
            name: "real",
            what: format!("7 layers, {real}"),
            rounds: stage.rounds(5),
            pull: bar(0.90, LARGE),
            push: Some(bar(0.65, LARGE)),
            make: |stage| Image::real(stage.folder("real"), 7, if stage.quick() { 40_000_000 } else { 283_000_000 }),
        },
        Load {
            name: "big",
            what: format!("1 layer of {big}"),
            rounds: stage.rounds(5),
            pull: bar(0.85, LARGE),
            push: Some(bar(0.80, LARGE)),
            make: |stage| Image::big(stage.folder("big"), if stage.quick() { 64 } else { 1024 }),
        },
        Load {
            name: "layers",
            what: "100 tiny layers".into(),
            rounds: stage.rounds(3),
            pull: Bar { ratio: None, peak: Some(LARGE) },
            push: Some(Bar { ratio: None, peak: Some(LARGE) }),
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
        if let Some(bar) = load.push {
            contests.push(push(stage, &load, bar, &image));
        }
        if load.name == "real" {
            contests.push(push_again(stage, &load, &image));
        }
    }
    contests
}

fn pull<'a>(stage: &'a Stage, load: &Load, image: &Rc<Published<'a>>) -> Contest<'a> {
    let [first, second, third] = [(); 3].map(|()| Rc::clone(image));
    Contest {
        name: format!("pull {}: cold, with unpacking; {}", load.name, load.what),
        rounds: load.rounds,
        bar: load.pull,
        set: Box::new(move || {
            first.get();
        }),
        rivals: vec![
            Rival::new(Who::Ctr, move |_| stage.ctr(["images", "pull", "--plain-http", second.reference()]))
                .after(|_| stage.empty()),
            Rival::new(Who::Ctrsh, move |_| stage.ctrsh(&format!("pull(\"{}\")", third.reference())))
                .after(|_| stage.empty()),
        ],
        clear: Box::new(|| {}),
    }
}

/// Makes who pushes an image to a target of the round, which is tagged before.
fn pushers<'a>(
    stage: &'a Stage,
    image: &Rc<Published<'a>>,
    target: impl Fn(Who, usize) -> String + Clone + 'a,
) -> Vec<Rival<'a>> {
    let tag = |who: Who| {
        let (target, image) = (target.clone(), Rc::clone(image));
        move |round: usize| done(stage.ctr(["images", "tag", "--force", image.reference(), &target(who, round)]))
    };
    let names = || (target.clone(), Rc::clone(image));
    let mut rivals = Vec::new();
    let (name, _) = names();
    let ctr = move |round| stage.ctr(["images", "push", "--plain-http", &name(Who::Ctr, round)]);
    rivals.push(Rival::new(Who::Ctr, ctr).before(tag(Who::Ctr)));
    let (name, _) = names();
    let ctrsh = move |round| stage.ctrsh(&format!("push(\"{}\")", name(Who::Ctrsh, round)));
    rivals.push(Rival::new(Who::Ctrsh, ctrsh).before(tag(Who::Ctrsh)));
    let (name, layout) = names();
    rivals.push(Rival::new(Who::Skopeo, move |round| {
        let to = format!("docker://{}", name(Who::Skopeo, round));
        stage.other("skopeo", ["copy", "--dest-tls-verify=false", &layout.image().skopeo_name(), &to])
    }));
    if installed("crane") {
        let (name, layout) = names();
        rivals.push(Rival::new(Who::Crane, move |round| {
            let layout = layout.image().layout().to_string_lossy().into_owned();
            stage.other("crane", ["push", "--insecure", &layout, &name(Who::Crane, round)])
        }));
    }
    rivals
}

fn push<'a>(stage: &'a Stage, load: &Load, bar: Bar, image: &Rc<Published<'a>>) -> Contest<'a> {
    let name = load.name;
    let here = Rc::clone(image);
    Contest {
        name: format!("push {name}: cold, to an empty registry"),
        rounds: load.rounds,
        bar,
        set: Box::new(move || stage.pull(here.reference())),
        rivals: pushers(stage, image, move |who, round| format!("{}/{name}/{}-{round}:1", stage.target(), who.name()))
            .into_iter()
            .map(|rival| rival.after(|_| stage.empty_target()))
            .collect(),
        clear: Box::new(|| {
            stage.empty();
            stage.empty_target();
        }),
    }
}

fn push_again<'a>(stage: &'a Stage, load: &Load, image: &Rc<Published<'a>>) -> Contest<'a> {
    let name = load.name;
    let here = Rc::clone(image);
    Contest {
        name: format!("push {name} again: all is there"),
        rounds: stage.rounds(10),
        bar: bar(0.20, SMALL),
        set: Box::new(move || stage.pull(here.reference())),
        // The first round, which is not counted, sends it.
        rivals: pushers(stage, image, move |who, _| format!("{}/{name}-again/{}:1", stage.target(), who.name())),
        clear: Box::new(|| {
            stage.empty();
            stage.empty_target();
        }),
    }
}
