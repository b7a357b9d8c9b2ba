//! SHOW REPOSITORIES and SHOW CREATE REPOSITORY. Secrets are masked.

use super::properties::{REMOTE_NAME, written};
use crate::catalog::cluster::{Access, Repository};
use crate::error::{self, Result};
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::privilege::need_admin;
use crate::exec::session::Session;
use crate::exec::text;
use coffer_stdx::secret::masked;

const COLUMNS: [&str; 11] = [
    "RepoId",
    "RepoName",
    "CreateTime",
    "IsReadOnly",
    "Location",
    "Broker",
    "Type",
    "ErrMsg",
    "RemoteName",
    "MaxUploadBytesPerSecond",
    "MaxDownloadBytesPerSecond",
];

/// SHOW REPOSITORIES.
pub fn show(context: &Context) -> Answer {
    let mut set = RowSet::new(COLUMNS);
    context.meta.view(|state| {
        for repository in state.repositories.values() {
            let way = context.backends.storage(state, repository, (&context.config.host, 0));
            let fault = match way {
                Err(error) => Some(error.message().to_owned()),
                Ok(_) => context
                    .backends
                    .repository_fault(repository.id)
                    .map(|fault| format!("{}: {}", text::time(fault.at_ms), fault.message)),
            };
            set.rows.push(row(repository, fault));
        }
    });
    Answer::Rows(set)
}

fn row(repository: &Repository, fault: Option<String>) -> Vec<Option<String>> {
    let (broker, kind) = match &repository.access {
        Access::Broker(name) => (name.as_str(), "BROKER"),
        Access::S3 => ("-", "S3"),
        Access::Hdfs => ("-", "HDFS"),
        Access::Local => ("-", "LOCAL"),
    };
    let limits = repository.limits.unwrap_or_default();
    vec![
        Some(repository.id.to_string()),
        Some(repository.name.clone()),
        Some(text::time(repository.created_ms)),
        Some(repository.read_only.to_string()),
        Some(repository.location.clone()),
        Some(broker.to_owned()),
        Some(kind.to_owned()),
        Some(fault.unwrap_or_else(|| text::NONE.to_owned())),
        Some(repository.remote_name.clone()),
        Some(limits.upload.to_string()),
        Some(limits.download.to_string()),
    ]
}

/// SHOW CREATE REPOSITORY FOR.
pub fn show_create(context: &Context, session: &Session, name: &str) -> Result<Answer> {
    need_admin(context, session)?;
    context.meta.view(|state| {
        let repository = state.find_repository(name).ok_or_else(|| error::unknown_repository(name))?;
        let mut set = RowSet::new(["RepoName", "CreateStmt"]);
        set.push([repository.name.clone(), statement(repository)]);
        Ok(Answer::Rows(set))
    })
}

fn statement(repository: &Repository) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let read_only = if repository.read_only { "READ ONLY " } else { "" };
    let access = match &repository.access {
        Access::Broker(name) => format!("BROKER `{name}`"),
        Access::S3 => "S3".to_owned(),
        Access::Hdfs => "HDFS".to_owned(),
        Access::Local => "LOCAL".to_owned(),
    };
    let mut text = format!(
        "CREATE {read_only}REPOSITORY `{}`\nWITH {access}\nON LOCATION {}",
        repository.name,
        quoted(&repository.location)
    );
    let mut properties = masked(&repository.properties);
    properties.extend(written(repository.limits));
    if repository.remote_name != repository.name {
        properties.insert(REMOTE_NAME.to_owned(), repository.remote_name.clone());
    }
    if !properties.is_empty() {
        let pairs: Vec<String> =
            properties.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
        text.push_str(&format!("\nPROPERTIES\n(\n{}\n)", pairs.join(",\n")));
    }
    text.push(';');
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample::repository;
    use super::*;
    use crate::catalog::rate::RateLimits;
    use std::collections::BTreeMap;

    #[test]
    fn the_statement_is_shown_without_secrets() {
        let pairs = [("s3.secret_key", "hunter2"), ("s3.endpoint", "http://\"x\"")];
        let shown = Repository { read_only: true, ..repository(Access::Broker("b".to_owned()), "s3://b/p", &pairs) };
        assert_eq!(
            statement(&shown),
            "CREATE READ ONLY REPOSITORY `r`\nWITH BROKER `b`\nON LOCATION \"s3://b/p\"\nPROPERTIES\n(\n\
             \"s3.endpoint\" = \"http://\\\"x\\\"\",\n\"s3.secret_key\" = \"*XXX\"\n);"
        );
        let plain = Repository { properties: BTreeMap::new(), read_only: false, access: Access::S3, ..shown };
        assert_eq!(statement(&plain), "CREATE REPOSITORY `r`\nWITH S3\nON LOCATION \"s3://b/p\";");
        let limits = Some(RateLimits { upload: 7, download: 0 });
        let other = statement(&Repository { limits, remote_name: "elsewhere".to_owned(), ..plain });
        assert!(other.contains("\"max_upload_bytes_per_second\" = \"7\""), "{other}");
        assert!(other.contains("\"remote_name\" = \"elsewhere\""), "{other}");
    }

    #[test]
    fn a_row_has_every_column_and_no_property() {
        let shown = row(&repository(Access::S3, "s3://b/p", &[("s3.secret_key", "hunter2")]), Some("down".to_owned()));
        assert_eq!(shown.len(), COLUMNS.len());
        let cells: Vec<&str> = shown.iter().flatten().map(String::as_str).collect();
        assert_eq!(cells[4..], ["s3://b/p", "-", "S3", "down", "r", "0", "0"]);
        assert_eq!(row(&repository(Access::Local, "/r", &[]), None)[7].as_deref(), Some("NULL"));
    }
}
