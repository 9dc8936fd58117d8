//! Arguments, wiring, signals; no logic.

fn main() {}
