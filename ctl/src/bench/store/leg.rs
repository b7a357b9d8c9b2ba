//! One contender: our store in one of its ways, or another program.

use super::data::Files;
use super::ours;
use super::peers::Peer;
use coffer_stdx::Result;
use coffer_stdx::error::Context;
use coffer_store::Store;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is to be carried.
#[derive(Debug)]
pub(crate) struct Load {
    /// The files.
    pub(crate) files: Files,
    /// Streams at once.
    pub(crate) streams: usize,
    /// The folder of this run below the location.
    pub(crate) run: String,
}

/// A contender.
#[derive(Debug)]
pub(crate) enum Leg {
    /// Our store.
    Ours {
        /// For the table.
        name: &'static str,
        /// The location.
        store: Arc<dyn Store>,
    },
    /// Another program.
    Peer(Peer),
}

impl Leg {
    /// Our store.
    pub(crate) fn ours(name: &'static str, store: Arc<dyn Store>) -> Leg {
        Leg::Ours { name, store }
    }

    /// Another program.
    pub(crate) fn peer(peer: Peer) -> Leg {
        Leg::Peer(peer)
    }

    /// For the table.
    pub(crate) fn name(&self) -> &str {
        match self {
            Leg::Ours { name, .. } => name,
            Leg::Peer(peer) => &peer.name,
        }
    }

    /// Whether others are measured by it.
    pub(crate) fn is_peer(&self) -> bool {
        matches!(self, Leg::Peer(_))
    }

    /// Carry the files into `folder` below the location; how long it took.
    pub(crate) async fn upload(&self, load: &Load, folder: &str) -> Result<Duration> {
        if let Leg::Peer(peer) = self {
            peer.prepare(folder).await?;
        }
        let begun = Instant::now();
        match self {
            Leg::Ours { store, .. } => ours::upload(store, load, folder).await?,
            Leg::Peer(peer) => peer.upload(load, folder).await?,
        }
        Ok(begun.elapsed())
    }

    /// Carry them back into the new directory `target`.
    pub(crate) async fn download(&self, load: &Load, folder: &str, target: &Path) -> Result<Duration> {
        std::fs::create_dir_all(target).context(|| format!("create {}", target.display()))?;
        let begun = Instant::now();
        match self {
            Leg::Ours { store, .. } => ours::download(store, load, folder, target).await?,
            Leg::Peer(peer) => peer.download(load, folder, target).await?,
        }
        Ok(begun.elapsed())
    }
}
