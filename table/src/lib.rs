//! What a table is, independent of who keeps it: column types, schema, partition ranges, bucket hashing, the merge of
//! rows with equal keys, and the way between text and Arrow values. Pure: no I/O, no clock. Shared by frontends (DDL,
//! INSERT) and backends (loads, scans).

pub mod calendar;
pub mod condition;
pub mod layout;
pub mod list;
pub mod merge;
pub mod model;
pub mod range;
pub mod route;
pub mod scalar;
pub mod schema;
mod sum;
pub mod text;
pub mod types;

pub use condition::{Comparison, Condition, Predicate};
pub use layout::{Layout, LayoutPartition};
pub use model::{Aggregate, Model};
pub use range::{Bound, KeyRange, ListValue, Scalar};
pub use route::{Routed, Router};
pub use schema::{Column, Schema};
pub use text::BatchBuilder;
pub use types::ColumnType;
