//! The `ctrsh` program: arguments, the runtime, and the exit status.

fn main() {}
