//! What a table is, independent of who keeps it: column types, schema, partition ranges, bucket hashing, and the way
//! between text and Arrow values. Pure: no I/O, no clock. Shared by frontends (DDL, INSERT) and backends (loads, scans).

pub mod layout;
pub mod range;
pub mod schema;
pub mod types;

pub use layout::{Layout, LayoutPartition};
pub use range::{Bound, KeyRange, Scalar};
pub use schema::{Column, Schema};
pub use types::ColumnType;
