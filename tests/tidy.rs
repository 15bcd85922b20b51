//! The project's own rules, held by tests.

use libtest_mimic::Trial;

/// The tests of the rules.
pub fn trials() -> Vec<Trial> {
    Vec::new()
}
