//! `docs/reference.md` is what `ctrsh reference` writes, and editors are told of all that it has.

use libtest_mimic::Trial;

use crate::harness::pure;

pub fn trials() -> Vec<Trial> {
    vec![
        pure("reference::the page is current", || {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
            let page = std::fs::read_to_string(path).unwrap();
            let written = ctrsh::script::reference::markdown(&ctrsh::script::api::catalog());
            let differs = page.lines().zip(written.lines()).position(|(old, new)| old != new);
            assert!(page == written, "run `ctrsh reference > docs/reference.md`; line {differs:?} differs");
        }),
        pure("reference::the definitions have every function and property", || {
            let catalog = ctrsh::script::api::catalog();
            let text = ctrsh::script::definitions::text(&catalog);
            for entry in catalog.entries() {
                let spec = entry.spec;
                let forms = text.matches(&format!("\nfn {}(", spec.name)).count();
                assert!(forms > 0, "{} is missing", entry.path());
                assert!(text.contains(spec.doc.lines().next().unwrap()), "{} is not explained", entry.path());
            }
            for object in catalog.objects() {
                for field in &object.fields {
                    let line = format!("fn get {}(this: {}) -> {};", field.name, object.name, field.ty);
                    assert!(text.contains(&line), "{line} is missing");
                }
            }
        }),
    ]
}
