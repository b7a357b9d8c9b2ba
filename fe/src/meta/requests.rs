//! Answers of statements that may be sent again, because the frontend that ran them died or was cut off before it
//! answered. The newest are kept, for a while that is long against any retry.

use crate::limits::{KEEP_REQUESTS_MS, MAX_KEPT_REQUESTS};
use crate::meta::command::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The answers, by request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// Oldest first, with the time each came.
    order: VecDeque<(u64, String)>,
    answers: BTreeMap<String, Outcome>,
}

impl Requests {
    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What a request was answered.
    pub fn answer(&self, request: &str) -> Option<&Outcome> {
        self.answers.get(request)
    }

    pub(in crate::meta) fn remember(&mut self, request: &str, now_ms: u64, outcome: Outcome) {
        if self.answers.insert(request.to_owned(), outcome).is_none() {
            self.order.push_back((now_ms, request.to_owned()));
        }
        let old = |(came, _): &(u64, String)| came.saturating_add(KEEP_REQUESTS_MS) < now_ms;
        while self.order.len() > MAX_KEPT_REQUESTS || self.order.front().is_some_and(old) {
            if let Some((_, request)) = self.order.pop_front() {
                self.answers.remove(&request);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::apply::apply;
    use crate::meta::command::Command;
    use crate::meta::state::State;

    fn once(request: &str, now_ms: u64, name: &str) -> Command {
        let command = Box::new(Command::CreateDatabase { name: name.to_owned() });
        Command::Once { request: request.to_owned(), now_ms, command }
    }

    #[test]
    fn a_request_is_done_once_and_answered_alike() {
        let mut state = State::default();
        let first = apply(&mut state, &once("a", 1, "d"));
        assert!(matches!(first, Outcome::Created(_)));
        assert_eq!(apply(&mut state, &once("a", 2, "d")), first);
        assert_eq!(state.databases.len(), 1);
        let refused = apply(&mut state, &once("b", 3, "d"));
        assert!(matches!(refused, Outcome::Refused { .. }));
        assert_eq!(apply(&mut state, &once("b", 4, "e")), refused);
        let inside = Command::Once { request: "c".to_owned(), now_ms: 1, command: Box::new(once("d", 1, "x")) };
        assert!(matches!(apply(&mut state, &inside), Outcome::Refused { .. }));
    }

    #[test]
    fn old_answers_and_too_many_are_forgotten() {
        let mut requests = Requests::default();
        for n in 0..MAX_KEPT_REQUESTS + 5 {
            requests.remember(&n.to_string(), 1, Outcome::Done);
        }
        assert!(requests.answer("4").is_none() && requests.answer("5").is_some());
        assert_eq!((requests.order.len(), requests.answers.len()), (MAX_KEPT_REQUESTS, MAX_KEPT_REQUESTS));
        requests.remember("late", KEEP_REQUESTS_MS + 2, Outcome::Done);
        assert_eq!((requests.order.len(), requests.answers.len()), (1, 1));
        requests.remember("late", KEEP_REQUESTS_MS + 3, Outcome::Done);
        assert_eq!(requests.order.len(), 1);
    }

    #[test]
    fn an_image_without_requests_reads_and_one_with_them_reads_back() {
        let mut state = State::default();
        let text = serde_json::to_string(&state).unwrap();
        assert!(!text.contains("requests"));
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        apply(&mut state, &once("a", 1, "d"));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    }
}
