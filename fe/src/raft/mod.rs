//! The replicated log below the state: openraft with its log in redb and its snapshots in files. All that the rest of the
//! frontend sees of it is [`Meta`].

mod handle;

pub use handle::{Leadership, Meta};
