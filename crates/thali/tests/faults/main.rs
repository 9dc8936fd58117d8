//! Claims about what fails, shown with the real program: a bug in it; and disks, on real file systems: one that is
//! full, and one whose syncs fail. Where mounting is not allowed or no C compiler is there, a test says so and is left out.

mod full;
mod panics;
mod store;
mod syncs;
