//! Everything that is replicated: [`state::State`], the [`command::Command`]s that change it, and the pure function
//! between them.

pub mod access;
pub mod apply;
pub mod command;
mod compact;
pub mod definition;
pub mod drain;
pub mod requests;
pub mod state;
pub mod view;
