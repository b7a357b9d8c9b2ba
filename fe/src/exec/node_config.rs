//! ADMIN SHOW and SET BACKEND or BROKER CONFIG: this frontend asks the processes themselves, all at the same time. What is
//! set holds until they stop; their files are the operator's.

use crate::error::{Error, Result};
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::filter::like;
use crate::exec::names::host_and_port;
use crate::meta::state::State;
use crate::sql::ast::NodeConfig;
use coffer_proto::v1::options_client::OptionsClient;
use coffer_proto::v1::{ChangeOptions, ProcessOption};
use coffer_proto::{channel, status};
use std::collections::HashMap;
use std::time::Duration;

/// A process that takes longer does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Run the statement.
pub(super) async fn run(context: &Context, asked: NodeConfig) -> Result<Answer> {
    let nodes = context.meta.view(|state| chosen(state, &asked))?;
    let kind = if asked.brokers { "broker" } else { "backend" };
    let set: HashMap<String, String> = asked.set.into_iter().collect();
    let answers = futures::future::join_all(nodes.iter().map(|node| ask(kind, node, &set))).await;
    if !set.is_empty() {
        return changed(kind, &nodes, answers);
    }
    let mut rows = RowSet::new(["Node", "Key", "Value", "Type", "IsMutable", "Comment"]);
    for (node, options) in nodes.into_iter().zip(answers) {
        let pattern = asked.like.as_deref();
        for option in options?.into_iter().filter(|option| pattern.is_none_or(|pattern| like(pattern, &option.key))) {
            let mutable = option.mutable.to_string();
            rows.push([node.clone(), option.key, option.value, option.kind, mutable, option.comment]);
        }
    }
    Ok(Answer::Rows(rows))
}

/// Addresses of the processes that are meant, each once.
fn chosen(state: &State, asked: &NodeConfig) -> Result<Vec<String>> {
    let mut known: Vec<String> = match asked.brokers {
        true => state.brokers.values().flat_map(|group| group.addresses.clone()).collect(),
        false => state.backends.values().map(|backend| format!("{}:{}", backend.host, backend.port)).collect(),
    };
    known.sort();
    known.dedup();
    if asked.addresses.is_empty() {
        return Ok(known);
    }
    let find = |address: &String| {
        let (host, port) = host_and_port(address)?;
        let wanted = format!("{host}:{port}");
        let kind = if asked.brokers { "broker" } else { "backend" };
        match known.contains(&wanted) {
            true => Ok(wanted),
            false => Err(Error::not_found(format!("the cluster has no {kind} {wanted}"))),
        }
    };
    asked.addresses.iter().map(find).collect()
}

async fn ask(kind: &str, node: &str, set: &HashMap<String, String>) -> Result<Vec<ProcessOption>> {
    let peer = format!("{kind} {node}");
    let mut client = OptionsClient::new(channel::connect(node)?);
    let asking = client.change(ChangeOptions { set: set.clone() });
    match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(Ok(list)) => Ok(list.into_inner().options),
        Ok(Err(error)) => {
            let error = status::from_status(&error, &peer);
            Err(Error::new(
                error.kind(),
                format!("{peer}: {}", error.message().trim_start_matches(&format!("{peer}: "))),
            ))
        }
        Err(_) => Err(Error::timeout(format!("{peer} did not answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

/// A change is an error when one process did not make it; the text says which did.
fn changed(kind: &str, nodes: &[String], answers: Vec<Result<Vec<ProcessOption>>>) -> Result<Answer> {
    let mut done = Vec::new();
    let mut failed = None;
    for (node, answer) in nodes.iter().zip(answers) {
        match answer {
            Ok(_) => done.push(node.as_str()),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let Some(error) = failed else { return Ok(Answer::ok()) };
    let done =
        if done.is_empty() { "changed nowhere".to_owned() } else { format!("changed at {kind} {}", done.join(", ")) };
    Err(Error::new(error.kind(), format!("{} ({done})", error.message())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sample;

    fn asked(brokers: bool, addresses: &[&str]) -> NodeConfig {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        NodeConfig { brokers, addresses, set: Default::default(), like: None }
    }

    #[test]
    fn all_or_those_named_are_meant() {
        let state = sample::state();
        let all = chosen(&state, &asked(false, &[])).unwrap();
        assert_eq!(all.len(), state.backends.len());
        assert_eq!(chosen(&state, &asked(false, &[&all[0]])).unwrap(), all[..1]);
        let unknown = chosen(&state, &asked(false, &["h:1"])).unwrap_err();
        assert!(unknown.message().contains("no backend h:1"), "{unknown}");
        assert!(chosen(&state, &asked(true, &["h:1"])).unwrap_err().message().contains("no broker h:1"));
    }

    #[test]
    fn a_change_that_some_did_not_make_says_who_did() {
        let nodes = ["a:1".to_owned(), "b:1".to_owned()];
        assert!(changed("backend", &nodes, vec![Ok(vec![]), Ok(vec![])]).is_ok());
        let some = changed("backend", &nodes, vec![Ok(vec![]), Err(Error::timeout("b is away"))]).unwrap_err();
        assert_eq!(some.message(), "b is away (changed at backend a:1)");
        let none = changed("broker", &nodes[..1], vec![Err(Error::invalid("no"))]).unwrap_err();
        assert_eq!(none.message(), "no (changed nowhere)");
    }
}
