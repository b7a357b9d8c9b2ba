//! What tasks are made of, and the small ones that only touch tablets. Tasks of backups and restores are in `snapshot`
//! and `transfer`; `agent` receives, queues and dispatches all of them.

pub mod context;

pub use context::{ProgressSink, TaskContext};
