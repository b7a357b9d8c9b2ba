//! The objects of the catalog as plain values: no locks, no ids handed out, no I/O.

pub mod bin;
pub mod cluster;
pub mod database;
pub mod job;
pub mod map;
pub mod rate;
pub mod table;
pub mod transaction;
pub mod view;
