//! Changes to repositories and to how fast bytes pass.

use crate::catalog::rate::{RateChange, RateLimits};
use crate::error::{Error, Result};
use crate::limits;
use crate::meta::command::{AlteredRepository, Outcome};
use crate::meta::state::State;

/// Merge properties (an empty value removes one) and limits into a repository.
pub(super) fn alter(state: &mut State, change: &AlteredRepository) -> Result<Outcome> {
    let found = state.repositories.get_mut(&change.repository);
    let repository = found.ok_or_else(|| Error::not_found("Repository does not exist"))?;
    let mut properties = repository.properties.clone();
    for (key, value) in &change.properties {
        match value.as_str() {
            "" => drop(properties.remove(key)),
            value => drop(properties.insert(key.clone(), value.to_owned())),
        }
    }
    if properties.len() > limits::MAX_PROPERTIES {
        return Err(Error::limit(format!("a repository has at most {} properties", limits::MAX_PROPERTIES)));
    }
    repository.properties = properties;
    if !change.limits.is_empty() {
        repository.limits = Some(change.limits.of(repository.limits.unwrap_or_default()));
    }
    Ok(Outcome::Done)
}

/// Limit brokers of a name, all when no address is given.
pub(super) fn alter_brokers(
    state: &mut State,
    name: &str,
    addresses: &[String],
    change: RateChange,
) -> Result<Outcome> {
    let group = state.brokers.get_mut(name).ok_or_else(|| Error::not_found(format!("Unknown broker name({name})")))?;
    if let Some(address) = addresses.iter().find(|address| !group.addresses.contains(address)) {
        return Err(Error::not_found(format!("Broker({address}) has not in brokers.")));
    }
    let all = if addresses.is_empty() { group.addresses.clone() } else { addresses.to_vec() };
    for address in all {
        let limits = group.limits.entry(address).or_default();
        *limits = change.of(*limits);
    }
    Ok(Outcome::Done)
}

/// Limits of brokers that left go with them.
pub(super) fn forget_limits(state: &mut State, name: &str) {
    if let Some(group) = state.brokers.get_mut(name) {
        let addresses = &group.addresses;
        group.limits.retain(|address, _: &mut RateLimits| addresses.contains(address));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use coffer_proto::ids::RepositoryId;
    use std::collections::BTreeMap;

    fn change(sample: &Sample, pairs: &[(&str, &str)], upload: Option<u64>) -> Command {
        let properties = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let limits = RateChange { upload, download: None };
        Command::AlterRepository(AlteredRepository { repository: sample.repository, properties, limits })
    }

    #[test]
    fn properties_are_merged_and_limits_kept_apart() {
        let mut sample = Sample::new();
        sample.ok(&change(&sample, &[("a", "1"), ("b", "2")], None));
        assert_eq!(sample.state.repositories[&sample.repository].limits, None);
        sample.ok(&change(&sample, &[("a", ""), ("c", "3")], Some(7)));
        let repository = &sample.state.repositories[&sample.repository];
        let expected = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned())]);
        assert_eq!(repository.properties, expected);
        assert_eq!(repository.limits, Some(RateLimits { upload: 7, download: 0 }));
        let many: Vec<String> = (0..=limits::MAX_PROPERTIES).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "x")).collect();
        let many = change(&sample, &many, None);
        sample.refuses(&many, ErrorKind::Limit, "at most");
        let nobody = AlteredRepository {
            repository: RepositoryId(1),
            properties: BTreeMap::new(),
            limits: RateChange::default(),
        };
        sample.refuses(&Command::AlterRepository(nobody), ErrorKind::NotFound, "Repository does not exist");
    }

    #[test]
    fn brokers_are_limited_one_by_one_or_all_and_forgotten_when_they_leave() {
        let mut sample = Sample::new();
        let list = |addresses: &[&str]| addresses.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>();
        sample.ok(&Command::AddBrokers { name: "br".to_owned(), addresses: list(&["i:8000"]) });
        let limit = |name: &str, addresses: &[&str], upload| Command::AlterBrokers {
            name: name.to_owned(),
            addresses: list(addresses),
            limits: RateChange { upload: Some(upload), download: None },
        };
        sample.ok(&limit("br", &[], 5));
        sample.ok(&limit("br", &["i:8000"], 9));
        let uploads = |sample: &Sample| -> Vec<u64> {
            sample.state.brokers["br"].limits.values().map(|limits| limits.upload).collect()
        };
        assert_eq!(uploads(&sample), [5, 9]);
        sample.refuses(&limit("no", &[], 1), ErrorKind::NotFound, "Unknown broker name(no)");
        sample.refuses(&limit("br", &["z:1"], 1), ErrorKind::NotFound, "Broker(z:1)");
        sample.ok(&Command::DropBrokers { name: "br".to_owned(), addresses: list(&["h:8000"]) });
        assert_eq!(uploads(&sample), [9]);
    }

    #[test]
    fn entries_and_images_from_before_limits_are_read() {
        let old = r#"{"AddBrokers":{"name":"b","addresses":["h:1"]}}"#;
        assert!(serde_json::from_str::<Command>(old).is_ok());
        let group: crate::catalog::cluster::BrokerGroup = serde_json::from_str(r#"{"addresses":["h:1"]}"#).unwrap();
        assert!(group.limits.is_empty());
        let old = r#"{"CreateRepository":{"name":"r","remote_name":"r","read_only":false,"access":"S3",
            "location":"s3://b","properties":{},"now_ms":1}}"#;
        let Command::CreateRepository(new) = serde_json::from_str(old).unwrap() else { panic!("{old}") };
        assert_eq!(new.limits, None);
        let old = r#"{"id":1,"name":"r","remote_name":"r","read_only":false,"access":{"Broker":"b"},
            "location":"s3://b","properties":{},"created_ms":1}"#;
        let repository: crate::catalog::cluster::Repository = serde_json::from_str(old).unwrap();
        assert_eq!(repository.limits, None);
    }
}
