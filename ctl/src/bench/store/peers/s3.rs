//! s5cmd, rclone, the AWS command line and restic against an S3 location.

use super::{Call, Peer, Place, Way, program};
use coffer_stdx::{Error, Result};

pub(super) fn peer(name: &str, args: &Place<'_>) -> Result<Peer> {
    let property = |name: &str| {
        let found = args.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        found.ok_or_else(|| Error::invalid(format!("peers need the property {name}")))
    };
    let (endpoint, key, secret) = (property("s3.endpoint")?, property("s3.access_key")?, property("s3.secret_key")?);
    let region = property("s3.region").unwrap_or_else(|_| "us-east-1".to_owned());
    let bucket = args.location.trim_start_matches("s3://").trim_end_matches('/').to_owned();
    let (program_name, location, arguments): (_, _, super::Arguments) = match name {
        "s5cmd" => ("s5cmd", format!("s3://{bucket}"), s5cmd),
        "rclone" => ("rclone", format!(":s3:{bucket}"), super::rclone),
        "awscli" | "aws" => ("aws", format!("s3://{bucket}"), awscli),
        "restic" => ("restic", format!("s3:{endpoint}/{bucket}"), restic),
        other => return Err(Error::invalid(format!("peer '{other}' is unknown: s5cmd, rclone, awscli, restic"))),
    };
    let prepare: Option<super::Arguments> = (name == "restic").then_some(restic_init);
    let environment = [
        ("AWS_ACCESS_KEY_ID", key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", &secret),
        ("AWS_REGION", &region),
        ("AWS_DEFAULT_REGION", &region),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("S3_ENDPOINT_URL", &endpoint),
        ("RCLONE_CONFIG", "/dev/null"),
        ("RCLONE_S3_PROVIDER", "Ceph"),
        ("RCLONE_S3_ENDPOINT", &endpoint),
        ("RCLONE_S3_REGION", &region),
        ("RCLONE_S3_ACCESS_KEY_ID", &key),
        ("RCLONE_S3_SECRET_ACCESS_KEY", &secret),
        ("RCLONE_S3_NO_CHECK_BUCKET", "true"),
        // It encrypts whatever it writes; the password protects bytes of no worth.
        ("RESTIC_PASSWORD", "measured"),
    ];
    let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let program = program(program_name, args)?;
    Ok(Peer { name: name.to_owned(), program, environment, location, prepare, arguments })
}

fn s5cmd(call: &Call<'_>) -> Vec<String> {
    let local = call.local.display();
    let paths = match call.way {
        Way::Up => [format!("{local}/*"), format!("{}/", call.remote)],
        Way::Down => [format!("{}/*", call.remote), format!("{local}/")],
    };
    // As it comes: 256 workers.
    ["--log", "error", "cp"].into_iter().map(str::to_owned).chain(paths).collect()
}

fn awscli(call: &Call<'_>) -> Vec<String> {
    let local = call.local.display().to_string();
    let paths = match call.way {
        Way::Up => [local, call.remote.clone()],
        Way::Down => [call.remote.clone(), local],
    };
    ["s3", "cp", "--recursive", "--only-show-errors"].into_iter().map(str::to_owned).chain(paths).collect()
}

fn restic_init(call: &Call<'_>) -> Vec<String> {
    ["-r", &call.remote, "--no-cache", "init", "--repository-version", "2"].map(str::to_owned).to_vec()
}

fn restic(call: &Call<'_>) -> Vec<String> {
    let local = call.local.display().to_string();
    let what: &[&str] = match call.way {
        Way::Up => &["backup", "--compression", "off", "."],
        Way::Down => &["restore", "latest", "--target", &local],
    };
    ["-r", &call.remote, "--no-cache"].iter().chain(what).map(|word| (*word).to_owned()).collect()
}
