//! The suite: real daemons, real registries, real containers.

fn main() {}
