//! ALTER SYSTEM: backends and brokers come and go, and brokers get limits.

pub(in crate::exec) mod drain;
mod frontends;
pub(in crate::exec) mod trash;

use crate::error::{Error, Result};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::exec::names::host_and_port;
use crate::exec::repository::properties::of_broker;
use crate::meta::command::Command;
use crate::meta::drain::DrainChange;
use crate::meta::state::State;
use crate::sql::ast::AlterSystem;
use coffer_proto::ids::BackendId;
use coffer_stdx::time::now_ms;
use std::time::Duration;

const DROP_WARNING: &str = "It is highly NOT RECOMMENDED to use DROP BACKEND stmt.It is not safe to directly drop a \
                            backend. All data on this backend will be discarded permanently. If you insist, use DROPP \
                            instead of DROP";

/// How long a new leader tries to reach the backends before those that it did not count as dead.
const ACQUAINTED_WITHIN: Duration = Duration::from_secs(5);

/// ALTER SYSTEM.
pub(super) async fn alter_system(context: &Context, statement: AlterSystem) -> Result<Answer> {
    let command = match statement {
        AlterSystem::AddBackend(addresses) => {
            let addresses = addresses.iter().map(|address| host_and_port(address)).collect::<Result<Vec<_>>>()?;
            Command::AddBackends { addresses, now_ms: now_ms() }
        }
        AlterSystem::DropBackend(_) => return Err(Error::invalid(DROP_WARNING)),
        AlterSystem::ForceDropBackend(named) => {
            let backends = context.meta.view(|state| find_backends(state, &named))?;
            Command::DropBackends { backends }
        }
        AlterSystem::DecommissionBackend(named) => {
            let all: Vec<BackendId> = context.meta.view(|state| state.backends.keys().copied().collect());
            context.backends.acquainted(&all, ACQUAINTED_WITHIN).await;
            context.meta.view(|state| {
                let backends = find_backends(state, &named)?;
                drain::decommission(state, backends, |backend| context.backends.alive(backend))
            })?
        }
        AlterSystem::CancelDecommission(named) => {
            let backends = context.meta.view(|state| find_backends(state, &named))?;
            Command::Drain(DrainChange::Decommission { backends, on: false })
        }
        AlterSystem::AddBroker { name, addresses } => Command::AddBrokers { name, addresses: checked(&addresses)? },
        AlterSystem::DropBroker { name, addresses } => {
            if addresses.is_empty() {
                return Err(Error::invalid("DROP BROKER needs at least one address; DROP ALL BROKER drops the name"));
            }
            Command::DropBrokers { name, addresses: checked(&addresses)? }
        }
        AlterSystem::ModifyBroker { name, addresses, properties } => {
            let limits = of_broker(properties)?;
            Command::AlterBrokers { name, addresses: checked(&addresses)?, limits }
        }
        AlterSystem::DropAllBroker(name) => Command::DropBrokers { name, addresses: Vec::new() },
        AlterSystem::AddFollower(addresses) => frontends::add(&addresses, false)?,
        AlterSystem::AddObserver(addresses) => frontends::add(&addresses, true)?,
        AlterSystem::DropFollower(addresses) => return frontends::drop(context, &addresses, false).await,
        AlterSystem::DropObserver(addresses) => return frontends::drop(context, &addresses, true).await,
    };
    context.meta.propose(command).await?;
    Ok(Answer::ok())
}

/// The addresses in one spelling.
fn checked(addresses: &[String]) -> Result<Vec<String>> {
    addresses.iter().map(|address| host_and_port(address).map(|(host, port)| format!("{host}:{port}"))).collect()
}

/// Backends by "host:port" or by id.
fn find_backends(state: &State, named: &[String]) -> Result<Vec<BackendId>> {
    let find = |name: &String| {
        if let Ok(id) = name.trim().parse::<BackendId>() {
            return state
                .backends
                .get(&id)
                .map(|backend| backend.id)
                .ok_or_else(|| Error::not_found(format!("backend does not exists[{id}]")));
        }
        let (host, port) = host_and_port(name)?;
        let found = state.backend_at(&host, port).map(|backend| backend.id);
        found.ok_or_else(|| Error::not_found(format!("backend does not exists[{host}:{port}]")))
    };
    named.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sample;

    #[test]
    fn backends_are_found_by_address_or_id() {
        let state = sample::state();
        let found = find_backends(&state, &["b2:9050".to_owned(), "10001".to_owned()]).unwrap();
        assert_eq!(found, [BackendId(10_002), BackendId(10_001)]);
        for (name, text) in [("b9:1", "backend does not exists[b9:1]"), ("7", "[7]"), ("b1", "host:port")] {
            assert!(find_backends(&state, &[name.to_owned()]).unwrap_err().message().contains(text), "{name}");
        }
    }

    #[test]
    fn addresses_get_one_spelling() {
        assert_eq!(checked(&[" h:08000 ".to_owned()]).unwrap(), ["h:8000"]);
    }
}
