//! Tablets at rest: paths, descriptions, files of rows, and everything that changes them durably.

mod copies;
mod disk;
pub(crate) mod history;
pub mod layout;
pub mod meta;
mod publish;
pub(crate) mod replace;
pub(crate) mod rows;
pub mod rowset;
pub(crate) mod run;
mod staging;
mod store;
#[allow(clippy::module_inception, reason = "the noun of this folder")]
mod tablet;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trash;

pub use disk::Disk;
pub use meta::{DataFile, Deletion, Rowset, TabletMeta};
pub use publish::{Publish, PublishTablet};
pub use staging::LoadWriter;
pub use store::{BadTablet, TabletStore};
pub use tablet::Tablet;
pub(crate) use tablet::changed_bytes;
