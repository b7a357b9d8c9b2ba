//! The leader's end in this backend: one control stream, tasks down, results, heartbeats and reports up.
//!
//! - [`service`]: takes streams; checks cluster and term; one stream at a time, the newest;
//! - [`session`]: moves messages both ways until the stream breaks;
//! - [`queue`]: accepts, deduplicates, runs and cancels tasks, and keeps results until a stream took them;
//! - [`dispatch`]: which function does which task, and how many of a kind run at a time;
//! - [`report`]: heartbeats and tablet reports.
//!
//! Nothing of it is durable: after a restart the leader sends again what it has no result of, and tasks are idempotent.

pub mod dispatch;
pub mod queue;
pub mod report;
pub mod service;
pub mod session;

pub use queue::TaskQueue;
pub use service::AgentService;
