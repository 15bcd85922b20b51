//! Many images from one registry to another.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use crate::contest::{Contest, Rival};
use crate::fleet::{Fleet, Lazy};
use crate::proxy;
use crate::stage::{PLAIN, SECURE, Stage, installed};

/// What a batch may take: MiB at four images at a time, and seconds of the processors.
const PEAK: f64 = 32.0;
const CPU: f64 = 8.0;

/// How the registries are reached.
#[derive(Clone, Copy)]
enum Line {
    Plain,
    Secure,
    /// Each request arrives so many milliseconds later.
    Late(u64),
}

/// Returns the workloads.
pub fn contests(stage: &Stage) -> Vec<Contest<'_>> {
    let (many, some) = if stage.quick() { (24, 12) } else { (200, 40) };
    let fleet = Rc::new(Lazy::new(stage, "fleet", many, Fleet::repositories));
    let part = Rc::new(Lazy::new(stage, "part", some, Fleet::repositories));
    let tags = Rc::new(Lazy::new(stage, "tags", many, Fleet::tags));
    vec![
        through(Way::new(stage, &fleet, Line::Plain)),
        between(Way::new(stage, &fleet, Line::Plain)),
        of_one_repository(Way::new(stage, &tags, Line::Plain)),
        far("over TLS", 3, Way::new(stage, &part, Line::Secure)),
        far("each request 20 ms late", 3, Way::new(stage, &part, Line::Late(20))),
        far("each request 100 ms late", 2, Way::new(stage, &part, Line::Late(100))),
    ]
}

/// From where to where.
#[derive(Clone)]
struct Way<'a> {
    stage: &'a Stage,
    fleet: Rc<Lazy<'a>>,
    line: Line,
    /// The proxies in front of the registries.
    proxies: Rc<OnceCell<(SocketAddr, SocketAddr)>>,
}

impl<'a> Way<'a> {
    fn new(stage: &'a Stage, fleet: &Rc<Lazy<'a>>, line: Line) -> Self {
        Self { stage, fleet: Rc::clone(fleet), line, proxies: Rc::default() }
    }

    fn numbers(&self) -> (usize, usize) {
        if matches!(self.line, Line::Secure) { SECURE } else { PLAIN }
    }

    /// Returns the names of the two registries.
    fn ends(&self) -> (String, String) {
        let (from, to) = self.numbers();
        let (from, to) = (self.stage.registry(from), self.stage.registry(to));
        let (from, to) = match self.line {
            Line::Plain | Line::Secure => (from, to),
            Line::Late(millis) => *self.proxies.get_or_init(|| {
                let by = Duration::from_millis(millis);
                (proxy::delay(from, by), proxy::delay(to, by))
            }),
        };
        (from.to_string(), to.to_string())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.stage.folder("lists").join(name)
    }

    /// Fills the first registry, and writes the lists of what is to be moved.
    fn set(&self) {
        let fleet = self.fleet.get();
        fleet.put(&self.stage.storage(self.numbers().0), usize::MAX);
        let (from, _) = self.ends();
        fleet.list(&self.file("images"), &from);
        fleet.list_for_skopeo(&self.file("images.yaml"), &from, matches!(self.line, Line::Secure));
    }

    /// Makes sure that all images have arrived.
    fn check(&self) {
        self.fleet.get().check(&self.stage.storage(self.numbers().1));
    }

    /// Empties the second registry.
    fn empty(&self) {
        self.stage.storage(self.numbers().1).empty();
    }

    /// A rival who is checked, and whose work is taken back.
    fn enter(&self, rival: Rival<'a>) -> Rival<'a> {
        let (checked, emptied) = (self.clone(), self.clone());
        rival.check(move |_| checked.check()).after(move |_| emptied.empty())
    }

    fn rival(&self, name: &'static str, work: impl Fn(&Self) -> Command + 'a) -> Rival<'a> {
        let way = self.clone();
        self.enter(Rival::new(name, move |_| work(&way)))
    }

    fn ours(&self, name: &'static str, work: impl Fn(&Self) -> Command + 'a) -> Rival<'a> {
        let way = self.clone();
        self.enter(Rival::ours(name, move |_| work(&way)).peak(PEAK).cpu(CPU))
    }

    fn contest(&self, name: String, rounds: usize, rivals: Vec<Rival<'a>>) -> Contest<'a> {
        let (set, clear) = (self.clone(), self.clone());
        Contest::new(name, self.stage.rounds(rounds), rivals)
            .without_warm_up()
            .set(move || set.set())
            .clear(move || clear.empty())
    }

    /// Does for each image, by its number `$n`, what bash is told: one after another, or four at a time.
    fn each(&self, work: &str, parallel: bool) -> Command {
        let last = self.fleet.count() - 1;
        self.stage.bash(&if parallel {
            // GNU xargs runs as many as it may and waits for all; one that fails makes it fail.
            format!("seq 0 {last} | xargs -P4 -I@ sh -euc 'n=@; {work}'")
        } else {
            format!("for n in $(seq 0 {last}); do {work}; done")
        })
    }

    fn skopeo_sync(&self) -> Command {
        let (_, to) = self.ends();
        let list = self.file("images.yaml");
        let secure = format!("--dest-tls-verify={}", matches!(self.line, Line::Secure));
        self.stage.skopeo(["sync", "--src", "yaml", "--dest", "docker", &secure, &list.to_string_lossy(), &to])
    }

    fn crane(&self, parallel: bool) -> Command {
        let (from, to) = self.ends();
        self.each(&format!("crane cp {from}/app-$n:1 {to}/app-$n:1"), parallel)
    }

    fn migrate(&self) -> Command {
        let list = self.file("images");
        self.stage.ctrsh(&format!("migrate(#{{ from: \"file:{}\", to: \"{}\" }})", list.display(), self.ends().1))
    }
}

/// Through containerd: each image is pulled, tagged and pushed.
fn through(way: Way<'_>) -> Contest<'_> {
    let ctr = |way: &Way<'_>, parallel| {
        let (from, to) = way.ends();
        let (from, to) = (format!("{from}/app-$n:1"), format!("{to}/app-$n:1"));
        way.each(
            &format!(
                "ctr images pull --plain-http {from}; ctr images tag {from} {to}; ctr images push --plain-http {to}"
            ),
            parallel,
        )
    };
    let ctrsh = |way: &Way<'_>, unpack: bool| {
        let (from, to) = way.ends();
        way.stage.ctrsh(&format!(
            "let numbers = []; for n in 0..{} {{ numbers.push(n) }} \
             parallel(numbers, |n| {{ let image = pull(`{from}/app-${{n}}:1`, #{{ unpack: {unpack} }}); \
             image.tag(`{to}/app-${{n}}:1`).push() }});",
            way.fleet.count()
        ))
    };
    let twice = |way: &Way<'_>| {
        let (from, to) = way.ends();
        let list = way.file("images");
        way.stage.ctrsh(&format!(
            "migrate(#{{ from: \"file:{}\", to: \"containerd:\", unpack: false }}); \
             migrate(#{{ from: \"containerd:\", include: \"{from}/app-*\", to: \"{to}\" }});",
            list.display()
        ))
    };
    let rivals = vec![
        local(&way, way.rival("ctr, loop", move |way| ctr(way, false))),
        local(&way, way.rival("ctr, xargs -P4", move |way| ctr(way, true))),
        way.rival("skopeo sync", Way::skopeo_sync),
        local(&way, way.ours("ctrsh", move |way| ctrsh(way, false)))
            .within(0.16, "ctr, loop")
            .within(0.30, "ctr, xargs -P4")
            .within(0.75, "skopeo sync"),
        local(&way, way.ours("ctrsh, migrate twice", twice)).within(0.16, "ctr, loop").within(0.30, "ctr, xargs -P4"),
        local(&way, way.ours("ctrsh, unpacking", move |way| ctrsh(way, true))).within(0.30, "ctr, loop"),
    ];
    way.contest(format!("migrate: {} images through containerd", way.fleet.count()), 3, rivals)
}

/// One who leaves the images in containerd too.
fn local<'a>(way: &Way<'a>, rival: Rival<'a>) -> Rival<'a> {
    let (checked, emptied) = (way.clone(), way.clone());
    let check = move |_| {
        checked.check();
        checked.stage.check_images(checked.fleet.count());
    };
    let after = move |_| {
        emptied.empty();
        emptied.stage.empty();
    };
    rival.check(check).after(after)
}

/// From registry to registry.
fn between(way: Way<'_>) -> Contest<'_> {
    let skopeo = |way: &Way<'_>| {
        let (from, to) = way.ends();
        let copy = "skopeo copy --src-tls-verify=false --dest-tls-verify=false";
        way.stage.forgetful(way.each(&format!("{copy} docker://{from}/app-$n:1 docker://{to}/app-$n:1"), false))
    };
    let mut rivals = vec![way.rival("skopeo copy, loop", skopeo), way.rival("skopeo sync", Way::skopeo_sync)];
    if installed("crane") {
        rivals.push(way.rival("crane cp, loop", |way| way.crane(false)));
        rivals.push(way.rival("crane cp, xargs -P4", |way| way.crane(true)));
    }
    let ours = way.ours("ctrsh", Way::migrate).within(0.40, "skopeo sync").within(0.32, "crane cp, loop");
    rivals.push(ours);
    way.contest(format!("migrate: {} images from registry to registry", way.fleet.count()), 3, rivals)
}

/// All tags of one repository.
fn of_one_repository(way: Way<'_>) -> Contest<'_> {
    let mut rivals = vec![way.rival("skopeo sync", |way| {
        let (from, to) = way.ends();
        let arguments = ["sync", "--src", "docker", "--src-tls-verify=false", "--dest", "docker"];
        let ends = ["--dest-tls-verify=false", &format!("{from}/app"), &to];
        way.stage.skopeo(arguments.into_iter().chain(ends))
    })];
    if installed("crane") {
        rivals.push(way.rival("crane cp -a", |way| {
            let (from, to) = way.ends();
            way.stage.other("crane", ["cp", "-a", &format!("{from}/app"), &format!("{to}/app")])
        }));
    }
    let ours = way.ours("ctrsh", |way| {
        let (from, to) = way.ends();
        way.stage.ctrsh(&format!("migrate(#{{ from: \"{from}/app:*\", to: \"{to}\" }})"))
    });
    rivals.push(ours.within(0.85, "crane cp -a"));
    way.contest(format!("migrate: {} tags of one repository", way.fleet.count()), 3, rivals)
}

/// Over a line that is not the loopback's.
fn far<'a>(what: &str, rounds: usize, way: Way<'a>) -> Contest<'a> {
    let mut rivals = vec![way.rival("skopeo sync", Way::skopeo_sync)];
    if installed("crane") {
        rivals.push(way.rival("crane cp, xargs -P4", |way| way.crane(true)));
    }
    rivals.push(way.ours("ctrsh", Way::migrate));
    way.contest(format!("migrate: {} images from registry to registry, {what}", way.fleet.count()), rounds, rivals)
}
