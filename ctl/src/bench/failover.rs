//! How long a cluster is without a leader: kill -9 of the leading frontend, then the time until the next change of the
//! catalog is acknowledged. The client knows all frontends and asks one after the other, as drivers with several addresses
//! do. Between rounds the killed frontend is started again and the cluster is whole.

use crate::cli::{FailoverArgs, UpArgs};
use crate::cluster::state::{Home, Role, State};
use crate::cluster::{self, join};
use crate::interrupt;
use crate::screen;
use crate::sql::{Login, Session};
use coffer_stdx::{Error, Result};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Before a statement that found no leader is given again.
const AGAIN: Duration = Duration::from_millis(10);
/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(30);
/// How long a cluster may take to be whole again.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);
/// A round that takes longer failed.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// Make a cluster, measure, remove it.
pub(crate) async fn run(args: &FailoverArgs) -> Result<()> {
    let up = UpArgs {
        dir: args.dir.clone(),
        frontends: args.frontends,
        backends: 1,
        brokers: 0,
        port_base: args.port_base,
        repos: Vec::new(),
        timeout: WHOLE_LIMIT.as_secs(),
    };
    let (home, mut state) = cluster::create(&up, false).await?;
    let measured = interrupt::unless(measure(args, &home, &mut state)).await;
    cluster::destroy(&home, &state).await?;
    let mut times = measured?;
    times.sort();
    let ms = |time: &Duration| format!("{} ms", time.as_millis());
    let (median, worst) = (&times[times.len() / 2], times.iter().max().unwrap_or(&Duration::ZERO));
    let rows = vec![vec![
        args.frontends.to_string(),
        times.len().to_string(),
        times.first().map(ms).unwrap_or_default(),
        ms(median),
        ms(worst),
    ]];
    screen::line(&screen::table(&["frontends", "rounds", "best", "median", "worst"], &rows));
    Ok(())
}

async fn measure(args: &FailoverArgs, home: &Home, state: &mut State) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for round in 1..=args.rounds {
        let address = join::leader(home, state).await.ok_or_else(|| Error::unavailable("no frontend leads"))?;
        let leader = state.of_role(Role::Frontend).find(|node| node.addresses.mysql.as_deref() == Some(&address));
        let leader = leader.ok_or_else(|| Error::bug(format!("the leader {address} is not ours")))?;
        let (name, process) = (leader.name.clone(), leader.process);
        let others: Vec<String> = state
            .of_role(Role::Frontend)
            .filter(|node| node.name != name)
            .filter_map(|node| node.addresses.mysql.clone())
            .collect();
        let mut sessions: Vec<Session> = others.iter().map(|address| Session::new(Login::root(address))).collect();
        for session in &mut sessions {
            session.query("SHOW DATABASES").await?;
        }
        let process = process.ok_or_else(|| Error::bug(format!("{name} never ran")))?;
        let killed = Instant::now();
        process.signal(Signal::KILL)?;
        accepted(&mut sessions, &format!("CREATE DATABASE round_{round}"), killed).await?;
        times.push(killed.elapsed());
        screen::line(&format!("round {round}: {name} killed, next change after {} ms", killed.elapsed().as_millis()));
        cluster::restart(home, state, &name)?;
        join::until_ready(home, state, WHOLE_LIMIT).await?;
    }
    Ok(times)
}

/// Give the statement to one frontend after the other until it is acknowledged.
async fn accepted(sessions: &mut [Session], statement: &str, since: Instant) -> Result<()> {
    let mut last = Error::unavailable("nobody was asked");
    while since.elapsed() < ROUND_LIMIT {
        for session in sessions.iter_mut() {
            match tokio::time::timeout(TRY_LIMIT, session.query(statement)).await {
                Ok(Ok(_)) => return Ok(()),
                // An earlier try whose answer was lost.
                Ok(Err(error)) if error.message().contains("database exists") => return Ok(()),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::timeout(format!("no answer to: {statement}")),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(last)
}
