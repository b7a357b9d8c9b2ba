//! The contract every store must pass; tests run it against each backend and each way to reach it.
//!
//! A [`Suite`] works below a folder that must be empty and leaves it empty. It reports the first broken promise by case.
//! What a backend cannot be asked without help (a login that may do nothing, a wire that breaks) is given to the suite by
//! whoever runs it; without it those cases are left out.
//!
//! Modules, bottom to top: `place` | `objects`, `folders`, `load`, `wire` | `network`.

mod folders;
mod load;
mod network;
mod objects;
mod place;
pub mod wire;

use crate::{ObjectInfo, Store};
use coffer_stdx::Result;
use coffer_stdx::error::Context;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use place::{Place, ensure};
use std::sync::Arc;
use std::time::Instant;
use wire::Wire;

/// Objects of the long listing, usually: several pages of every backend.
const NAMES: usize = 10_000;
/// Bytes of the big object, usually: many parts, more than the buffers on the way.
const BIG: u64 = (64 << 20) + 4_321;
/// Streams at once, usually.
const STREAMS: usize = 200;

/// The suite, and how much of it.
#[derive(Debug)]
pub struct Suite {
    store: Arc<dyn Store>,
    folder: String,
    sizes: Sizes,
    wire: Option<Arc<Wire>>,
    reads_checked: bool,
    denied: Option<Denied>,
    only: Option<&'static str>,
}

/// How much.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    names: usize,
    big: u64,
    streams: usize,
}

/// The same location, reached by somebody who may not.
#[derive(Debug, Clone)]
struct Denied {
    store: Arc<dyn Store>,
    reads: bool,
}

type Case = fn(Place) -> BoxFuture<'static, Result<()>>;

const CASES: [(&str, Case); 17] = [
    ("put_and_get", |place| Box::pin(objects::put_and_get(place))),
    ("whole", |place| Box::pin(objects::whole(place))),
    ("overwrite", |place| Box::pin(objects::overwrite(place))),
    ("create_new", |place| Box::pin(objects::create_new(place))),
    ("empty", |place| Box::pin(objects::empty(place))),
    ("large", |place| Box::pin(objects::large(place))),
    ("ranges", |place| Box::pin(objects::ranges(place))),
    ("failing_body", |place| Box::pin(objects::failing_body(place))),
    ("cancelled", |place| Box::pin(objects::cancelled(place))),
    ("odd_names", |place| Box::pin(folders::odd_names(place))),
    ("children", |place| Box::pin(folders::children(place))),
    ("rename", |place| Box::pin(folders::rename(place))),
    ("delete", |place| Box::pin(folders::delete(place))),
    ("missing_and_bad", |place| Box::pin(folders::missing_and_bad(place))),
    ("long_listing", |place| Box::pin(load::long_listing(place))),
    ("big", |place| Box::pin(load::big(place))),
    ("at_once", |place| Box::pin(load::at_once(place))),
];

/// Run every case that needs no help below `folder`.
pub async fn run(store: Arc<dyn Store>, folder: &str) -> Result<()> {
    Suite::new(store, folder).run().await
}

impl Suite {
    /// Everything that needs no help, below `folder`.
    pub fn new(store: Arc<dyn Store>, folder: &str) -> Suite {
        let sizes = Sizes { names: NAMES, big: BIG, streams: STREAMS };
        Suite { store, folder: folder.to_owned(), sizes, wire: None, reads_checked: false, denied: None, only: None }
    }

    /// So many objects in the long listing: fewer for slow servers, but more than a page.
    pub fn names(mut self, names: usize) -> Suite {
        self.sizes.names = names;
        self
    }

    /// The size of the big object.
    pub fn big(mut self, bytes: u64) -> Suite {
        self.sizes.big = bytes;
        self
    }

    /// This case alone.
    pub fn only(mut self, case: &'static str) -> Suite {
        self.only = Some(case);
        self
    }

    /// The wire that every byte of the store passes through: adds connections that break and bytes that change.
    /// `reads_checked`: whether a changed byte of a read must be noticed by the store.
    pub fn wire(mut self, wire: Arc<Wire>, reads_checked: bool) -> Suite {
        self.wire = Some(wire);
        self.reads_checked = reads_checked;
        self
    }

    /// The same location for somebody who may not write there, nor, with `reads`, read.
    pub fn denied(mut self, store: Arc<dyn Store>, reads: bool) -> Suite {
        self.denied = Some(Denied { store, reads });
        self
    }

    /// Run it.
    pub async fn run(self) -> Result<()> {
        let wanted: Vec<_> = CASES.iter().filter(|(name, _)| self.only.is_none_or(|only| only == *name)).collect();
        ensure(!wanted.is_empty(), || format!("there is no case {:?}", self.only))?;
        for (name, case) in wanted {
            self.case(name, *case).await?;
        }
        if let Some(denied) = &self.denied {
            let place = self.place("denied");
            objects::denied(place, &denied.store, denied.reads).await.context(|| "case denied")?;
        }
        if let Some(wire) = &self.wire {
            for (name, case) in network::CASES {
                let place = self.place(name);
                let outcome = case(place, Arc::clone(wire)).await;
                wire.heal();
                outcome.context(|| format!("case {name}"))?;
            }
            if self.reads_checked {
                let place = self.place("garbled_read");
                network::garbled_read(place, Arc::clone(wire)).await.context(|| "case garbled_read")?;
            }
        }
        self.store.delete(&self.folder, true).await?;
        let left: Vec<ObjectInfo> = self.store.list(&self.folder).await?.try_collect().await?;
        ensure(left.is_empty(), || format!("{} objects are left after a recursive delete", left.len()))
    }

    async fn case(&self, name: &str, case: Case) -> Result<()> {
        let begun = Instant::now();
        let outcome = case(self.place(name)).await.context(|| format!("case {name}"));
        tracing::debug!(case = name, ms = begun.elapsed().as_millis() as u64, "contract");
        outcome
    }

    fn place(&self, case: &str) -> Place {
        Place { store: Arc::clone(&self.store), folder: format!("{}/{case}", self.folder), sizes: self.sizes }
    }
}
