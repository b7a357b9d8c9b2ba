//! Hadoop's command line and rclone against an HDFS location.

use super::{Call, Peer, Place, Way, program};
use coffer_stdx::{Error, Result};

pub(super) fn peer(name: &str, args: &Place<'_>) -> Result<Peer> {
    let rest = args.location.trim_start_matches("hdfs://").trim_end_matches('/');
    let (namenode, folder) = rest.split_once('/').unwrap_or((rest, ""));
    if !namenode.contains(':') {
        return Err(Error::invalid(format!(
            "peers need the location as hdfs://host:port/folder, not {}",
            args.location
        )));
    }
    let user = args.properties.iter().find(|(key, _)| matches!(key.as_str(), "username" | "hadoop.username"));
    let user = user.map_or("root", |(_, user)| user);
    let (location, environment, arguments): (_, &[(&str, &str)], super::Arguments) = match name {
        "hdfs" => (format!("hdfs://{namenode}/{folder}"), &[("HADOOP_USER_NAME", user)], hadoop),
        "rclone" => (
            format!(":hdfs:/{folder}"),
            &[("RCLONE_CONFIG", "/dev/null"), ("RCLONE_HDFS_NAMENODE", namenode), ("RCLONE_HDFS_USERNAME", user)],
            super::rclone,
        ),
        other => return Err(Error::invalid(format!("peer '{other}' is unknown: hdfs, rclone"))),
    };
    let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let location = location.trim_end_matches('/').to_owned();
    Ok(Peer { name: name.to_owned(), program: program(name, args)?, environment, location, prepare: None, arguments })
}

/// `-t` is cut to twice the processors by the program itself.
fn hadoop(call: &Call<'_>) -> Vec<String> {
    let local = call.local.display().to_string();
    let words = match call.way {
        // A folder under a new name.
        Way::Up => vec!["-put".to_owned(), "-t".to_owned(), call.streams.to_string(), local, call.remote.clone()],
        Way::Down => vec!["-get".to_owned(), format!("{}/*", call.remote), local],
    };
    ["dfs".to_owned()].into_iter().chain(words).collect()
}
