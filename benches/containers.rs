//! Containers, from their making to their end.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::contest::{Bar, Contest, Rival, Who};
use crate::image::Image;
use crate::stage::Stage;

/// Returns the workloads.
pub fn contests(stage: &Stage) -> Vec<Contest<'_>> {
    vec![life(stage)]
}

fn life(stage: &Stage) -> Contest<'_> {
    let image = Rc::new(OnceCell::new());
    let [first, second, third] = [(); 3].map(|()| Rc::clone(&image));
    let reference = |image: &OnceCell<String>| image.get().cloned().unwrap_or_default();
    Contest {
        name: "container: create, start, metrics, kill, delete".into(),
        rounds: stage.rounds(10),
        bar: Bar { ratio: Some(0.65), peak: Some(16.0) },
        set: Box::new(move || {
            let made = Image::tiny(stage.folder("containers"));
            let reference = first.get_or_init(|| stage.publish(&made, "containers"));
            stage.pull(reference);
        }),
        rivals: vec![
            // `task kill` returns before the task has ended, and `task rm` refuses until then.
            Rival::new(Who::Ctr, move |_| {
                stage.bash(&format!(
                    "id=bench-ctr-$$; ctr run -d {} $id sleep 1000; ctr task metrics $id; ctr task kill -s KILL $id; \
                     until ctr task rm $id 2>/dev/null; do :; done; ctr container rm $id",
                    reference(&second)
                ))
            }),
            Rival::new(Who::Ctrsh, move |round| {
                stage.ctrsh(&format!(
                    "let c = create(\"bench-{}-{round}\", \"{}\", #{{ args: [\"sleep\", \"1000\"] }}); c.start(); \
                     c.metrics(); c.kill(\"KILL\"); c.wait(); c.delete()",
                    std::process::id(),
                    reference(&third)
                ))
            }),
        ],
        clear: Box::new(|| stage.empty()),
    }
}
