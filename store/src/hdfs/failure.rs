//! What HDFS says when something fails, as errors of ours: which call, which host and port, why, and what to set.
//!
//! Kinds follow the Java exception that the NameNode names. What is not known by name is taken for transient: a lost
//! connection, a NameNode that changes roles, a block that is not there yet.

use super::settings::ClusterSettings;
use coffer_stdx::{Error, ErrorKind};
use hdfs_native::HdfsError;
use std::io;

/// What to do when DataNodes cannot be reached.
const HOSTNAME_ADVICE: &str = "when DataNodes announce addresses that cannot be reached from here, set \
                               dfs.client.use.datanode.hostname = true";
const LOGIN_ADVICE: &str = "set kerberos_principal and kerberos_keytab, and see that the realm's KDC is in krb5.conf";

/// `error`, met while `doing` something at `cluster`.
pub(super) fn failed(doing: &str, cluster: &ClusterSettings, error: HdfsError) -> Error {
    let (kind, cause) = explained(cluster, error);
    Error::new(kind, format!("{doing}: {cause}"))
}

/// Nothing came within the time given.
pub(super) fn silent(doing: &str, cluster: &ClusterSettings, seconds: u64) -> Error {
    Error::timeout(format!("{doing}: no answer within {seconds} s from {}", cluster.name()))
}

/// Whether the failure is that of a DataNode, which `diagnose` may find.
pub(super) fn blames_datanodes(error: &HdfsError) -> bool {
    match error {
        HdfsError::DataTransferError(_) => true,
        // The connection to a NameNode reports its end in these words; others are those to DataNodes.
        HdfsError::IOError(error) => !error.to_string().contains("RPC listener"),
        _ => false,
    }
}

/// Whether a path names nothing because a part of it is a file.
pub(super) fn runs_through_a_file(error: &HdfsError) -> bool {
    matches!(error, HdfsError::RPCError(class, _) if class.ends_with(".ParentNotDirectoryException"))
}

/// Whether trying the same write again, perhaps on other DataNodes, may help.
pub(super) fn worth_another_try(error: &Error) -> bool {
    error.kind().is_transient() || error.kind() == ErrorKind::NoSpace && error.message().contains("minReplication")
}

fn explained(cluster: &ClusterSettings, error: HdfsError) -> (ErrorKind, String) {
    let name = cluster.name();
    match error {
        HdfsError::IOError(error) => connection(cluster, &error),
        HdfsError::RPCError(class, message) | HdfsError::FatalRPCError(class, message) => {
            refused(cluster, &class, &message)
        }
        HdfsError::AlreadyExists(message) => (ErrorKind::AlreadyExists, first_line(&message).to_owned()),
        HdfsError::FileNotFound(path) => (ErrorKind::NotFound, format!("{path} does not exist")),
        HdfsError::IsADirectoryError(path) => (ErrorKind::NotFound, format!("{path} is a folder")),
        HdfsError::DataTransferError(message) => {
            (ErrorKind::Unavailable, format!("DataNodes of {name} failed: {}; {HOSTNAME_ADVICE}", datanodes(&message)))
        }
        HdfsError::ChecksumError => {
            (ErrorKind::Corrupt, "the checksum of a block is wrong on every replica".to_owned())
        }
        HdfsError::BlocksNotFound(path) => (ErrorKind::Unavailable, format!("no DataNode has the blocks of {path}")),
        HdfsError::InvalidPath(_) | HdfsError::InvalidArgument(_) | HdfsError::UrlParseError(_) => {
            (ErrorKind::Invalid, error.to_string())
        }
        HdfsError::UnsupportedErasureCodingPolicy(_)
        | HdfsError::UnsupportedFeature(_)
        | HdfsError::TrashNotEnabled => (ErrorKind::NotSupported, error.to_string()),
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => login(cluster, &error),
        HdfsError::OperationFailed(message) if message.contains("credential store") => {
            (ErrorKind::Denied, format!("{name}: {message}; {LOGIN_ADVICE}"))
        }
        other => (ErrorKind::Unavailable, format!("{name}: {other}")),
    }
}

fn connection(cluster: &ClusterSettings, error: &io::Error) -> (ErrorKind, String) {
    let text = error.to_string();
    let name = cluster.name();
    let kind = if error.kind() == io::ErrorKind::TimedOut { ErrorKind::Timeout } else { ErrorKind::Unavailable };
    let advice = match error.kind() {
        _ if text.contains("lookup address") => match (&cluster.nameservice, cluster.url.ends_with(":8020")) {
            (None, true) => {
                "; this is no known host: correct the location, or when it is a nameservice set dfs.nameservices, \
                 dfs.ha.namenodes.* and dfs.namenode.rpc-address.*"
            }
            _ => "; this is no known host: correct the location or the name service of this machine",
        },
        io::ErrorKind::ConnectionRefused => {
            "; nothing listens there: is this the RPC port of a running NameNode \
                                             (that of fs.defaultFS, not the one of its web page)?"
        }
        // The library keeps the refusal of a cluster that wants Kerberos to itself.
        io::ErrorKind::ConnectionAborted if cluster.kerberos.is_none() => {
            "; it closed the connection: it is stopping, it wants Kerberos (set hadoop.security.authentication = kerberos, \
             kerberos_principal and kerberos_keytab), or this is not the RPC port of a NameNode (that of fs.defaultFS, not \
             the one of its web page)"
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {
            "; it closed the connection: it is stopping, or this is not the RPC port of a NameNode (that of \
             fs.defaultFS, not the one of its web page)"
        }
        _ => "",
    };
    (kind, format!("{name}: {text}{advice}"))
}

/// A Java exception, by its class.
fn refused(cluster: &ClusterSettings, class: &str, message: &str) -> (ErrorKind, String) {
    let short = class.rsplit(['.', '$']).next().unwrap_or(class);
    let text = first_line(message);
    let name = cluster.name();
    let said = format!("{name} says {short}: {text}");
    if text.contains("SafeModeException") || short == "SafeModeException" || text.contains("Name node is in safe mode")
    {
        let advice = "wait until its DataNodes have reported, or end it with hdfs dfsadmin -safemode leave";
        return (ErrorKind::Unavailable, format!("{name} is in safe mode: {advice} ({text})"));
    }
    match short {
        "StandbyException" | "ObserverRetryOnActiveException" => {
            (ErrorKind::Unavailable, format!("no NameNode of {name} is active ({text})"))
        }
        "ParentNotDirectoryException" => (ErrorKind::NotFound, said),
        "AccessControlException" if text.contains("SIMPLE authentication is not enabled") => {
            let advice = "set hadoop.security.authentication = kerberos, kerberos_principal and kerberos_keytab";
            (ErrorKind::Denied, format!("{name} wants Kerberos: {advice} ({text})"))
        }
        "AccessControlException" | "AuthorizationException" => {
            (ErrorKind::Denied, format!("{said}; act as another user (property username), or change owner or mode"))
        }
        "SaslException" | "GSSException" | "InvalidToken" => (ErrorKind::Denied, format!("{said}; {LOGIN_ADVICE}")),
        "FileNotFoundException" => (ErrorKind::NotFound, said),
        "FileAlreadyExistsException" | "AlreadyBeingCreatedException" => (ErrorKind::AlreadyExists, said),
        "NSQuotaExceededException"
        | "DSQuotaExceededException"
        | "QuotaByStorageTypeExceededException"
        | "QuotaExceededException" => {
            (ErrorKind::NoSpace, format!("quota exceeded at {name}: {text}; free space or raise the quota"))
        }
        "DiskOutOfSpaceException" => (ErrorKind::NoSpace, said),
        "InvalidPathException"
        | "HadoopIllegalArgumentException"
        | "PathComponentTooLongException"
        | "VersionMismatch"
        | "RpcNoSuchProtocolException"
        | "RpcNoSuchMethodException" => (ErrorKind::Invalid, said),
        "UnresolvedPathException" | "UnsupportedOperationException" => (ErrorKind::NotSupported, said),
        _ if text.contains("must both be directories") => (ErrorKind::Conflict, format!("a folder is there: {text}")),
        _ if text.contains("minReplication") && text.contains("There are 0 datanode") => {
            (ErrorKind::Unavailable, format!("{name} has no live DataNode: {text}"))
        }
        _ if text.contains("minReplication") => (
            ErrorKind::NoSpace,
            format!("no DataNode of {name} has room for a block: {text}; free space or add DataNodes"),
        ),
        _ => (ErrorKind::Unavailable, said),
    }
}

fn login(cluster: &ClusterSettings, error: &HdfsError) -> (ErrorKind, String) {
    let text = error.to_string();
    // The KDC may be back in a moment; everything else is a matter of keys and names.
    let kind = match text.contains("Cannot contact any KDC") || text.contains("Cannot find KDC") {
        true => ErrorKind::Unavailable,
        false => ErrorKind::Denied,
    };
    let who = cluster.kerberos.as_ref().and_then(|kerberos| kerberos.principal.clone());
    let who = who.map_or_else(|| "with the tickets of this process".to_owned(), |name| format!("as {name}"));
    (kind, format!("Kerberos login {who} at {} failed: {}; {LOGIN_ADVICE}", cluster.name(), first_line(&text)))
}

/// A message without the stack trace below it.
fn first_line(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default().trim();
    line.split_once("\\n\\tat ").map_or(line, |(line, _)| line)
}

/// hdfs-native shows the records of all DataNodes it tried; their addresses are enough.
fn datanodes(message: &str) -> String {
    let Some((what, records)) = message.split_once(": [") else { return first_line(message).to_owned() };
    let quoted = |record: &str, field: &str| -> Option<String> {
        let rest = record.split_once(field)?.1;
        Some(rest.trim_start_matches('"').chars().take_while(|c| !matches!(c, '"' | ',' | ' ' | '}')).collect())
    };
    let found: Vec<String> = records
        .split("DatanodeIdProto {")
        .skip(1)
        .filter_map(|record| {
            let (ip, port) = (quoted(record, "ip_addr: ")?, quoted(record, "xfer_port: ")?);
            Some(format!("{ip}:{port} ({})", quoted(record, "host_name: ")?))
        })
        .collect();
    if found.is_empty() { first_line(message).to_owned() } else { format!("{what}: {}", found.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use std::collections::BTreeMap;

    fn cluster(location: &str) -> ClusterSettings {
        Settings::parse(location, &BTreeMap::new(), BTreeMap::new()).unwrap().cluster
    }

    fn rpc(class: &str, message: &str) -> HdfsError {
        HdfsError::RPCError(format!("org.apache.hadoop.x.{class}"), format!("{message}\n\tat java.Stack(Trace)"))
    }

    fn io(kind: io::ErrorKind, text: &str) -> HdfsError {
        HdfsError::IOError(io::Error::new(kind, text.to_owned()))
    }

    #[test]
    fn each_failure_has_its_kind_and_says_what_to_do() {
        use ErrorKind::{
            AlreadyExists, Corrupt, Denied, Invalid, NoSpace, NotFound, NotSupported, Timeout, Unavailable,
        };
        let full = "File /x could only be written to 0 of the 1 minReplication nodes. There are 3 datanode(s) running";
        let none = "File /x could only be written to 0 of the 1 minReplication nodes. There are 0 datanode(s) running";
        for (error, kind, says) in [
            (rpc("StandbyException", "Operation category READ"), Unavailable, "no NameNode of"),
            (rpc("SafeModeException", "Cannot create"), Unavailable, "-safemode leave"),
            (rpc("RetriableException", "org.apache.SafeModeException: x"), Unavailable, "safe mode"),
            (rpc("AccessControlException", "Permission denied: user=bob"), Denied, "property username"),
            (rpc("AccessControlException", "SIMPLE authentication is not enabled."), Denied, "wants Kerberos"),
            (rpc("FileNotFoundException", "File does not exist"), NotFound, "h:1"),
            (rpc("ParentNotDirectoryException", "/a (is not a directory)"), NotFound, "/a"),
            (rpc("FSLimitException$PathComponentTooLongException", "too long"), Invalid, "too long"),
            (rpc("DSQuotaExceededException", "The DiskSpace quota of /q"), NoSpace, "raise the quota"),
            (rpc("InvalidPathException", "Invalid path name"), Invalid, "Invalid path"),
            (rpc("RemoteException", full), NoSpace, "room for a block"),
            (rpc("RemoteException", none), Unavailable, "no live DataNode"),
            (rpc("NewException", "whatever"), Unavailable, "NewException: whatever"),
            (io(io::ErrorKind::ConnectionRefused, "refused"), Unavailable, "h:1: refused; nothing listens"),
            (io(io::ErrorKind::ConnectionAborted, "RPC listener"), Unavailable, "closed the connection"),
            (io(io::ErrorKind::TimedOut, "late"), Timeout, "late"),
            (io(io::ErrorKind::Other, "failed to lookup address information"), Unavailable, "no known host"),
            (HdfsError::AlreadyExists("/x".to_owned()), AlreadyExists, "/x"),
            (HdfsError::ChecksumError, Corrupt, "checksum"),
            (HdfsError::UnsupportedFeature("y".to_owned()), NotSupported, "y"),
            (HdfsError::NoSASLMechanism, Denied, "kerberos_keytab"),
            (HdfsError::SASLError("Cannot contact any KDC".to_owned()), Unavailable, "KDC"),
        ] {
            let error = failed("put hdfs://h:1/x", &cluster("hdfs://h:1/"), error);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(says) && error.message().starts_with("put hdfs://h:1/x: "), "{error}");
            assert!(!error.message().contains("java.Stack"), "{error}");
        }
    }

    #[test]
    fn a_host_that_may_be_a_nameservice_gets_that_advice() {
        let error =
            failed("look", &cluster("hdfs://ns/"), io(io::ErrorKind::Other, "failed to lookup address information"));
        assert!(error.message().contains("dfs.nameservices"), "{error}");
    }

    #[test]
    fn datanodes_are_named_by_address() {
        let text = "All DataNodes failed: [DatanodeInfoProto { id: DatanodeIdProto { ip_addr: \"10.0.0.7\", host_name: \
                    \"dn7.x\", datanode_uuid: \"u\", xfer_port: 9866, info_port: 1 } }]";
        let error = failed("get", &cluster("hdfs://h:1/"), HdfsError::DataTransferError(text.to_owned()));
        assert!(error.message().contains("All DataNodes failed: 10.0.0.7:9866 (dn7.x); when"), "{error}");
        assert!(blames_datanodes(&HdfsError::DataTransferError(String::new())));
        assert!(blames_datanodes(&io(io::ErrorKind::ConnectionRefused, "refused")));
        assert!(!blames_datanodes(&io(io::ErrorKind::ConnectionAborted, "RPC listener disconnected")));
    }
}
