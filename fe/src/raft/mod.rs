//! The replicated log below the state: openraft with its log in redb and its snapshots in files. All that the rest of the
//! frontend sees of it is [`Meta`].

mod codec;
mod handle;
mod home;
mod log;
mod machine;
mod network;
#[cfg(test)]
mod tests;
mod types;

pub use handle::{Leadership, Meta};
pub use types::NodeId;
