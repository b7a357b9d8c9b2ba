//! The JSON answer of a stream load. Field names and order are those that clients parse; the HTTP status is 200 also when
//! the load failed.

use coffer_stdx::{Error, ErrorKind};
use serde::Serialize;

/// The answer.
#[derive(Debug, Clone, Serialize, Default)]
#[serde(rename_all = "PascalCase")]
pub struct Reply {
    /// The transaction; -1 when none was opened.
    pub txn_id: i64,
    /// The label, given or made up.
    pub label: String,
    /// The header `comment`.
    pub comment: String,
    /// Whether it waits for commit or abort, as a text.
    pub two_phase_commit: &'static str,
    /// How it ended.
    pub status: Outcome,
    /// With `Label Already Exists`: RUNNING, PRECOMMITTED or FINISHED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_job_status: Option<&'static str>,
    /// `OK`, or what went wrong.
    pub message: String,
    /// Rows of the file.
    pub number_total_rows: u64,
    /// Rows in the table.
    pub number_loaded_rows: u64,
    /// Rows left out.
    pub number_filtered_rows: u64,
    /// Rows for which `where` does not hold.
    pub number_unselected_rows: u64,
    /// Bytes of the body.
    pub load_bytes: u64,
    /// Time in all.
    pub load_time_ms: u64,
    /// Time to open the transaction.
    pub begin_txn_time_ms: u64,
    /// Always 0: the plan comes with the transaction.
    pub stream_load_put_time_ms: u64,
    /// Time spent waiting for the body.
    pub read_data_time_ms: u64,
    /// Time from the first byte until all replicas were written.
    pub write_data_time_ms: u64,
    /// Time to commit and become visible.
    pub commit_and_publish_time_ms: u64,
    /// Where the reasons of filtered rows are.
    #[serde(rename = "ErrorURL", skip_serializing_if = "Option::is_none")]
    pub error_url: Option<String>,
    /// Answer with HTTP 401.
    #[serde(skip)]
    pub denied: bool,
}

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum Outcome {
    /// Visible.
    Success,
    /// Committed, not visible yet; it must not be sent again.
    #[serde(rename = "Publish Timeout")]
    PublishTimeout,
    /// Another load has the label.
    #[serde(rename = "Label Already Exists")]
    LabelAlreadyExists,
    /// Nothing was loaded, unless the message says that it is not known.
    #[default]
    Fail,
}

impl Outcome {
    /// The name in the answer and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "Success",
            Outcome::PublishTimeout => "Publish Timeout",
            Outcome::LabelAlreadyExists => "Label Already Exists",
            Outcome::Fail => "Fail",
        }
    }
}

impl Reply {
    /// The answer to a load that has not got anywhere.
    pub fn new(label: &str, comment: &str) -> Reply {
        Reply {
            txn_id: -1,
            label: label.to_owned(),
            comment: comment.to_owned(),
            two_phase_commit: "false",
            ..Reply::default()
        }
    }

    /// The load failed.
    pub fn fail(mut self, error: &Error) -> Reply {
        self.status = Outcome::Fail;
        self.denied = error.kind() == ErrorKind::Denied;
        self.message = error.message().to_owned();
        self
    }

    /// The JSON text.
    pub fn json(&self) -> String {
        // Strings and numbers always serialise.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_clients_know() {
        let reply = Reply::new("l", "").fail(&Error::invalid("no such column"));
        let json: serde_json::Value = serde_json::from_str(&reply.json()).unwrap();
        let names = "TxnId Label Comment TwoPhaseCommit Status Message NumberTotalRows NumberLoadedRows \
                     NumberFilteredRows NumberUnselectedRows LoadBytes LoadTimeMs BeginTxnTimeMs StreamLoadPutTimeMs \
                     ReadDataTimeMs WriteDataTimeMs CommitAndPublishTimeMs";
        let names: std::collections::BTreeSet<&str> = names.split_whitespace().collect();
        assert_eq!(
            json.as_object().unwrap().keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
            names
        );
        assert_eq!((json["Status"].as_str(), json["TxnId"].as_i64()), (Some("Fail"), Some(-1)));
        let exists = Reply { status: Outcome::LabelAlreadyExists, error_url: Some("u".into()), ..reply };
        assert!(exists.json().contains(r#""Status": "Label Already Exists""#) && exists.json().contains("ErrorURL"));
        assert_eq!(serde_json::to_value(Outcome::PublishTimeout).unwrap(), Outcome::PublishTimeout.name());
    }
}
