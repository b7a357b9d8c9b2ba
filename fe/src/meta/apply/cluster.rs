//! Bootstrap, backends, brokers, repositories and users.

use crate::catalog::cluster::{Access, Backend, Repository, User};
use crate::catalog::job::{BackupJob, BackupState};
use crate::error::{Error, Result};
use crate::limits;
use crate::meta::command::{NewRepository, Outcome};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, RepositoryId};

/// The users of a new cluster and their roles; both have an empty password.
const FIRST_USERS: [(&str, &str); 2] = [("root", "operator"), ("admin", "admin")];

pub(super) fn bootstrap(state: &mut State, cluster_id: &str) -> Result<Outcome> {
    if !state.cluster_id.is_empty() {
        return Err(Error::already_exists(format!("the cluster has the id {} already", state.cluster_id)));
    }
    state.cluster_id = cluster_id.to_owned();
    for (name, role) in FIRST_USERS {
        let user = User { roles: [role.to_owned()].into(), ..User::default() };
        state.users.insert(name.to_owned(), user);
    }
    Ok(Outcome::Done)
}

pub(super) fn add_backends(state: &mut State, addresses: &[(String, u16)], now_ms: u64) -> Result<Outcome> {
    for (at, (host, port)) in addresses.iter().enumerate() {
        if state.backend_at(host, *port).is_some() || addresses[..at].iter().any(|(h, p)| h == host && p == port) {
            return Err(Error::already_exists(format!("Same backend already exists[{host}:{port}]")));
        }
    }
    if state.backends.len() + addresses.len() > limits::MAX_BACKENDS {
        return Err(Error::limit(format!("a cluster has at most {} backends", limits::MAX_BACKENDS)));
    }
    for (host, port) in addresses {
        let id = BackendId(state.take_id());
        state
            .backends
            .insert(id, Backend { id, host: host.clone(), port: *port, added_ms: now_ms, decommissioned: false });
    }
    Ok(Outcome::Done)
}

pub(super) fn drop_backends(state: &mut State, backends: &[BackendId]) -> Result<Outcome> {
    for backend in backends {
        if !state.backends.contains_key(backend) {
            return Err(Error::not_found(format!("backend does not exist[{backend}]")));
        }
    }
    state.backends.retain(|id, _| !backends.contains(id));
    Ok(Outcome::Done)
}

pub(super) fn add_brokers(state: &mut State, name: &str, addresses: &[String]) -> Result<Outcome> {
    let known = state.brokers.get(name);
    for (at, address) in addresses.iter().enumerate() {
        if known.is_some_and(|group| group.addresses.contains(address)) || addresses[..at].contains(address) {
            return Err(Error::already_exists(format!("Broker({address}) has already in brokers.")));
        }
    }
    let count: usize = state.brokers.values().map(|group| group.addresses.len().max(1)).sum();
    if count + addresses.len() > limits::MAX_BROKERS {
        return Err(Error::limit(format!("a cluster has at most {} brokers", limits::MAX_BROKERS)));
    }
    state.brokers.entry(name.to_owned()).or_default().addresses.extend_from_slice(addresses);
    Ok(Outcome::Done)
}

/// Without addresses the whole name goes; with all of them it stays known and empty.
pub(super) fn drop_brokers(state: &mut State, name: &str, addresses: &[String]) -> Result<Outcome> {
    let group = state.brokers.get_mut(name).ok_or_else(|| Error::not_found(format!("Unknown broker name({name})")))?;
    if let Some(address) = addresses.iter().find(|address| !group.addresses.contains(address)) {
        return Err(Error::not_found(format!("Broker({address}) has not in brokers.")));
    }
    if addresses.is_empty() {
        in_use_by(state, name)?;
        state.brokers.remove(name);
    } else {
        group.addresses.retain(|address| !addresses.contains(address));
    }
    Ok(Outcome::Done)
}

fn in_use_by(state: &State, broker: &str) -> Result<()> {
    let user = state.repositories.values().find(|one| one.access == Access::Broker(broker.to_owned()));
    match user.and_then(|repository| state.running_job_on(repository.id).map(|job| (repository, job))) {
        Some((repository, job)) => Err(Error::conflict(format!(
            "broker {broker} is in use by repository {} for job {}; wait for it or cancel it",
            repository.name, job.id
        ))),
        None => Ok(()),
    }
}

pub(super) fn create_repository(state: &mut State, new: &NewRepository) -> Result<Outcome> {
    if state.find_repository(&new.name).is_some() {
        return Err(Error::already_exists(format!("repository with same name already exist: {}", new.name)));
    }
    if state.repositories.len() >= limits::MAX_REPOSITORIES {
        return Err(Error::limit(format!("a cluster has at most {} repositories", limits::MAX_REPOSITORIES)));
    }
    if let Access::Broker(broker) = &new.access {
        state.broker_group(broker)?;
    }
    let id = RepositoryId(state.take_id());
    let repository = Repository {
        id,
        name: new.name.clone(),
        remote_name: new.remote_name.clone(),
        read_only: new.read_only,
        access: new.access.clone(),
        location: new.location.clone(),
        properties: new.properties.clone(),
        created_ms: new.now_ms,
        limits: new.limits,
    };
    state.repositories.insert(id, repository);
    Ok(Outcome::Created(id.0))
}

pub(super) fn drop_repository(state: &mut State, repository: RepositoryId) -> Result<Outcome> {
    if !state.repositories.contains_key(&repository) {
        return Err(Error::not_found("Repository does not exist"));
    }
    if let Some(job) = state.running_job_on(repository) {
        return Err(Error::conflict(format!(
            "Backup or restore job is running on this repository. Can not drop it: label = {} jobId = {}",
            job.label, job.id
        )));
    }
    let unclean =
        |job: &&BackupJob| job.repository == repository && job.state == BackupState::Cancelled && !job.cleaned;
    if let Some(job) = state.backups.values().find(unclean) {
        return Err(Error::conflict(format!(
            "Backup or restore job is being cleaned up in this repository. Can not drop it: label = {} jobId = {}; \
             try again in a moment",
            job.label, job.id
        )));
    }
    state.repositories.remove(&repository);
    Ok(Outcome::Done)
}

pub(super) fn set_user(state: &mut State, name: &str, user: &User) -> Result<Outcome> {
    state.users.insert(name.to_owned(), user.clone());
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, new_repository};
    use super::*;
    use crate::account::{Privilege, Who};
    use crate::error::ErrorKind;
    use crate::meta::command::Command;

    #[test]
    fn a_cluster_is_born_once_with_two_users() {
        let mut sample = Sample::new();
        let who = |user: &str| Who { user: user.to_owned(), ..Who::default() };
        let holds = |user: &str, privilege| sample.state.rights(&who(user)).unwrap().holds(privilege);
        assert!(holds("root", Privilege::Node) && holds("root", Privilege::Admin));
        assert!(!holds("admin", Privilege::Node) && holds("admin", Privilege::Admin));
        let again = Command::Bootstrap { cluster_id: "d".to_owned() };
        sample.refuses(&again, ErrorKind::AlreadyExists, "id c already");
        let user = User { admin: false, ..User::default() };
        sample.ok(&Command::SetUser { name: "eve".to_owned(), user });
        assert!(!sample.state.users["eve"].admin);
    }

    #[test]
    fn backends_are_known_by_address() {
        let mut sample = Sample::new();
        let add = |addresses: &[(&str, u16)]| Command::AddBackends {
            addresses: addresses.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect(),
            now_ms: 1,
        };
        sample.refuses(&add(&[("b1", 9050)]), ErrorKind::AlreadyExists, "Same backend already exists[b1:9050]");
        sample.refuses(&add(&[("n", 1), ("n", 1)]), ErrorKind::AlreadyExists, "[n:1]");
        sample.ok(&add(&[("b1", 9051)]));
        let many: Vec<(String, u16)> = (0..limits::MAX_BACKENDS).map(|n| (format!("m{n}"), 1)).collect();
        sample.refuses(&Command::AddBackends { addresses: many, now_ms: 1 }, ErrorKind::Limit, "at most");
        let drop = Command::DropBackends { backends: vec![sample.backends[0]] };
        sample.ok(&drop);
        sample.refuses(&drop, ErrorKind::NotFound, "backend does not exist");
    }

    #[test]
    fn brokers_have_a_name_and_addresses() {
        let mut sample = Sample::new();
        let list = |addresses: &[&str]| addresses.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>();
        let add = |addresses: &[&str]| Command::AddBrokers { name: "br".to_owned(), addresses: list(addresses) };
        let drop =
            |name: &str, addresses: &[&str]| Command::DropBrokers { name: name.to_owned(), addresses: list(addresses) };
        sample.refuses(&add(&["h:8000"]), ErrorKind::AlreadyExists, "Broker(h:8000) has already in brokers.");
        sample.refuses(&add(&["x:1", "x:1"]), ErrorKind::AlreadyExists, "x:1");
        sample.ok(&add(&["i:8000"]));
        sample.refuses(&drop("no", &[]), ErrorKind::NotFound, "Unknown broker name(no)");
        sample.refuses(&drop("br", &["z:1"]), ErrorKind::NotFound, "Broker(z:1) has not in brokers.");
        let many: Vec<String> = (0..limits::MAX_BROKERS).map(|n| format!("m{n}:1")).collect();
        let many = Command::AddBrokers { name: "many".to_owned(), addresses: many };
        sample.refuses(&many, ErrorKind::Limit, "at most");
        // Without an address the name stays known, and is as good as none for a repository.
        sample.ok(&drop("br", &["h:8000", "i:8000"]));
        assert!(sample.state.brokers["br"].addresses.is_empty());
        let error = sample.refused(&Command::CreateRepository(new_repository("r2")));
        assert_eq!(error.message(), "broker does not exist: br");
        let job = sample.backup();
        sample.refuses(&drop("br", &[]), ErrorKind::Conflict, "in use by repository repo");
        let error = crate::catalog::job::JobError { kind: "CANCELLED".to_owned(), message: "user".to_owned() };
        sample.ok(&Command::CancelJob { job, error, now_ms: 1 });
        sample.ok(&drop("br", &[]));
        assert!(sample.state.brokers.is_empty());
    }

    #[test]
    fn repositories_have_names_and_stay_while_a_job_uses_them() {
        let mut sample = Sample::new();
        let again = Command::CreateRepository(new_repository("repo"));
        sample.refuses(&again, ErrorKind::AlreadyExists, "repository with same name already exist: repo");
        let drop = Command::DropRepository { repository: sample.repository };
        sample.backup();
        sample.refuses(&drop, ErrorKind::Conflict, "Backup or restore job is running on this repository");
        let unknown = Command::DropRepository { repository: RepositoryId(1) };
        sample.refuses(&unknown, ErrorKind::NotFound, "Repository does not exist");
        let mut free = Sample::new();
        free.ok(&Command::DropRepository { repository: free.repository });
        assert!(free.state.repositories.is_empty());
    }
}
