//! JSON into rows: bytes into documents ([`split`]), documents into values ([`value`]), places in them ([`path`]), and
//! values into batches ([`rows`]). Bottom to top; pure.

pub mod path;
pub mod rows;
pub mod split;
pub mod value;
