//! Replicas that are missing, behind or damaged become whole again.
//!
//! [`service`] hands this backend's tablets to others, [`clone`] takes one from another backend when the leader says so,
//! [`scrub`] finds damage that no query meets. What happens on disk is in `tablet::replace`.

pub mod clone;
pub mod scrub;
pub mod service;

pub use service::ReplicasService;
