//! `docs/reference.md` is what `ctrsh reference` writes.

use libtest_mimic::Trial;

use crate::harness::pure;

pub fn trials() -> Vec<Trial> {
    vec![pure("reference::the page is current", || {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
        let page = std::fs::read_to_string(path).unwrap();
        let written = ctrsh::script::reference::markdown(&ctrsh::script::api::catalog());
        let differs = page.lines().zip(written.lines()).position(|(old, new)| old != new);
        assert!(page == written, "run `ctrsh reference > docs/reference.md`; line {differs:?} differs");
    })]
}
