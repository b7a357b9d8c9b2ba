//! Statement to executor.

pub mod answer;
pub mod filter;
pub mod session;

pub use answer::{Answer, Done, RowSet};
pub use session::Session;
