//! SHOW FRONTENDS: every frontend of the catalog, asked by the one that shows them.

use crate::catalog::cluster::Frontend;
use crate::exec::answer::RowSet;
use crate::exec::context::Context;
use crate::exec::text::{NONE, time};
use crate::limits;
use crate::raft::membership;
use coffer_proto::v1::FrontendStatus;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, Result};
use futures::future::join_all;

/// How long the list waits until this frontend is up to date.
const NEWEST_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

const COLUMNS: [&str; 22] = [
    "Name",
    "Host",
    "EditLogPort",
    "HttpPort",
    "QueryPort",
    "RpcPort",
    "ArrowFlightSqlPort",
    "Role",
    "IsMaster",
    "ClusterId",
    "Join",
    "Alive",
    "ReplayedJournalId",
    "LastStartTime",
    "LastHeartbeat",
    "IsHelper",
    "ErrMsg",
    "Version",
    "CurrentConnected",
    "AppliedIndex",
    "Lag",
    "Votes",
];

/// What is known of a frontend and what it said.
struct Seen {
    frontend: Frontend,
    status: Result<FrontendStatus>,
    votes: bool,
    own: bool,
}

/// The list; it must work without a leader.
pub(super) async fn show(context: &Context) -> RowSet {
    let meta = &context.meta;
    // Without a leader the list is as old as this frontend is behind.
    let _ = tokio::time::timeout(NEWEST_WITHIN, meta.barrier()).await;
    let (cluster_id, known) =
        meta.view(|state| (state.cluster_id.clone(), state.frontends.values().cloned().collect::<Vec<_>>()));
    let voters = membership::voters(meta);
    let asked = known.into_iter().map(|frontend| async {
        let own = frontend.id == meta.node_id();
        let status = match meta.peers() {
            Some(peers) if own => peers.status(&context.config.grpc_address(), limits::STATUS_WITHIN).await,
            Some(peers) => peers.status(&frontend.address(), limits::STATUS_WITHIN).await,
            None => Err(Error::not_supported("no log")),
        };
        let status = status.and_then(|status| same(&frontend, &cluster_id, status));
        Seen { votes: voters.contains(&frontend.id), own, frontend, status }
    });
    table(&join_all(asked).await, &cluster_id)
}

/// Another frontend at the address of a known one is not that one.
fn same(frontend: &Frontend, cluster_id: &str, status: FrontendStatus) -> Result<FrontendStatus> {
    if status.cluster_id == cluster_id && status.node_id == frontend.id {
        return Ok(status);
    }
    let (node, cluster) = (status.node_id, status.cluster_id);
    Err(Error::conflict(format!("{} is frontend {node} of cluster {cluster}", frontend.address())))
}

fn table(seen: &[Seen], cluster_id: &str) -> RowSet {
    let newest = seen.iter().filter_map(|one| one.status.as_ref().ok()).map(|status| status.applied).max();
    let mut set = RowSet::new(COLUMNS);
    for one in seen {
        set.push(row(one, cluster_id, newest.unwrap_or(0)));
    }
    set
}

fn row(seen: &Seen, cluster_id: &str, newest: u64) -> Vec<String> {
    let (frontend, status) = (&seen.frontend, seen.status.as_ref().ok());
    let number =
        |of: fn(&FrontendStatus) -> u64| status.map_or_else(|| "0".to_owned(), |status| of(status).to_string());
    let applied = number(|status| status.applied);
    let error = seen.status.as_ref().err();
    let error = match (&frontend.token, error) {
        (None, _) => "added, has not joined yet: start it with --helper".to_owned(),
        (Some(_), Some(error)) => error.message().to_owned(),
        (Some(_), None) => String::new(),
    };
    let lag = status.map_or_else(|| NONE.to_owned(), |status| newest.saturating_sub(status.applied).to_string());
    let yes = |is: bool| (if is { "Yes" } else { "No" }).to_owned();
    vec![
        format!("fe_{}", frontend.id),
        frontend.host.clone(),
        frontend.port.to_string(),
        number(|status| u64::from(status.http_port)),
        number(|status| u64::from(status.mysql_port)),
        frontend.port.to_string(),
        "-1".to_owned(),
        frontend.role().to_owned(),
        status.is_some_and(|status| status.leading).to_string(),
        cluster_id.to_owned(),
        frontend.token.is_some().to_string(),
        status.is_some().to_string(),
        applied.clone(),
        time(status.map_or(0, |status| status.start_time_ms)),
        time(if status.is_some() { now_ms() } else { 0 }),
        (!frontend.observer).to_string(),
        error,
        status.map_or_else(String::new, |status| status.version.clone()),
        yes(seen.own),
        applied,
        lag,
        yes(seen.votes),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontend(id: u64, observer: bool, token: Option<&str>) -> Frontend {
        let token = token.map(str::to_owned);
        Frontend { id, host: format!("h{id}"), port: 9010, observer, added_ms: 1, token }
    }

    fn status(node_id: u64, applied: u64, leading: bool) -> FrontendStatus {
        FrontendStatus {
            cluster_id: "c".to_owned(),
            node_id,
            applied,
            leading,
            mysql_port: 9030,
            ..FrontendStatus::default()
        }
    }

    #[test]
    fn each_frontend_shows_role_leader_progress_and_why_it_is_away() {
        let seen = [
            Seen { frontend: frontend(1, false, Some("")), status: Ok(status(1, 90, true)), votes: true, own: false },
            Seen { frontend: frontend(2, true, Some("t")), status: Ok(status(2, 80, false)), votes: false, own: true },
            Seen {
                frontend: frontend(3, false, Some("t")),
                status: Err(Error::unavailable("refused")),
                votes: true,
                own: false,
            },
            Seen { frontend: frontend(4, false, None), status: Err(Error::timeout("x")), votes: false, own: false },
        ];
        let set = table(&seen, "c");
        let cell = |row: usize, name: &str| {
            let at = COLUMNS.iter().position(|column| *column == name).unwrap();
            set.rows[row][at].clone().unwrap()
        };
        let names = ["Role", "IsMaster", "Alive", "ReplayedJournalId", "Lag", "Votes", "CurrentConnected", "QueryPort"];
        let row = |number| names.map(|name| cell(number, name));
        assert_eq!(row(0), ["FOLLOWER", "true", "true", "90", "0", "Yes", "No", "9030"]);
        assert_eq!(row(1), ["OBSERVER", "false", "true", "80", "10", "No", "Yes", "9030"]);
        assert_eq!(row(2), ["FOLLOWER", "false", "false", "0", "NULL", "Yes", "No", "0"]);
        assert_eq!(cell(2, "ErrMsg"), "refused");
        assert!(cell(3, "ErrMsg").contains("--helper") && cell(3, "Join") == "false");
        assert!(set.rows.iter().all(|row| row.len() == COLUMNS.len()));
    }

    #[test]
    fn another_process_at_the_address_is_named() {
        assert!(same(&frontend(1, false, None), "c", status(1, 1, false)).is_ok());
        let error = same(&frontend(2, false, None), "c", status(1, 1, false)).unwrap_err();
        assert_eq!(error.message(), "h2:9010 is frontend 1 of cluster c");
    }
}
