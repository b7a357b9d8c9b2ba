//! Several frontends as real processes: who joins and leaves, where statements run, and what becomes of statements and jobs
//! when the leader is killed, frozen, or cut off from the others.
//!
//! `COFFER_SOAK=1` runs every fault in every state of every job, and more rounds under load.

mod faults;
mod history;
mod jobs;
mod keys;
mod linear;
mod members;
mod mishaps;
mod proxy;
mod reach;
mod recovery;

/// Whether the long version was asked for.
fn soak() -> bool {
    std::env::var_os("COFFER_SOAK").is_some()
}
