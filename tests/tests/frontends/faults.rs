//! What can happen to a leader, and how it comes back.

use crate::proxy::Network;
use anyhow::Context;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::{Cluster, Node, Outcome, Sql, eventually};

/// A fault of one frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9; started again later.
    Kill,
    /// SIGSTOP; SIGCONT later.
    Pause,
    /// No way to the other frontends, while backends and clients still reach it.
    Cut,
}

impl Fault {
    /// Let it happen.
    pub(crate) fn strike(self, node: &Node, network: &Network) -> Outcome {
        match self {
            Fault::Kill => node.kill(),
            Fault::Pause => node.pause()?,
            Fault::Cut => network.cut(&node.name),
        }
        Ok(())
    }

    /// Undo it, and wait until the cluster is whole.
    pub(crate) async fn undo(self, cluster: &Cluster, node: &Node, network: &Network) -> Outcome {
        match self {
            Fault::Kill => node.start()?,
            Fault::Pause => node.resume()?,
            Fault::Cut => network.heal(),
        }
        cluster.until_alive().await.with_context(|| format!("{self:?} of {} was undone", node.name))
    }
}

/// A session with any frontend but this one.
pub(crate) fn others(cluster: &Cluster, node: &Node) -> Sql {
    let all: Vec<&str> =
        cluster.of("fe-").filter(|other| other.name != node.name).map(|other| other.mysql.as_str()).collect();
    Sql::new(&all.join(","))
}

/// Wait until another frontend than this one leads.
pub(crate) async fn replaced(cluster: &Cluster, node: &Node) -> Outcome {
    eventually("another frontend leads", READY_LIMIT, || async {
        let rows = others(cluster, node).query("SHOW FRONTENDS").await?;
        let port = format!(":{}", node.mysql.rsplit_once(':').context("host:port")?.1);
        let leads = |row: &&coffer_tests::mysql::Row| {
            row.get("IsMaster") == "true" && format!(":{}", row.get("QueryPort")) != port
        };
        rows.iter().find(leads).map(|_| ()).with_context(|| format!("{rows:?}"))
    })
    .await
}
