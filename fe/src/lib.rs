//! The frontend: SQL over the MySQL protocol, replicated metadata, job decisions.
//!
//! Modules, bottom to top (each imports only from those above it in this list):
//! `error config limits account vault | sql | catalog | meta | raft | metrics tools arguments | audit login | backends | custody |
//! load | query | job | exec | forward | mysql http | node`.

pub mod account;
pub mod arguments;
pub mod audit;
pub mod backends;
pub mod catalog;
pub mod config;
pub mod custody;
pub mod error;
pub mod exec;
pub mod forward;
pub mod http;
pub mod job;
pub mod limits;
pub mod load;
pub mod login;
pub mod meta;
pub mod metrics;
pub mod mysql;
pub mod node;
pub mod query;
pub mod raft;
pub mod sql;
pub mod tools;
pub mod vault;
