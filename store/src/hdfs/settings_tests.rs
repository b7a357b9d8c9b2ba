//! Every branch of reading an HDFS location.

use super::*;

const HA: [(&str, &str); 4] = [
    ("dfs.nameservices", "ns"),
    ("dfs.ha.namenodes.ns", "nn1, nn2"),
    ("dfs.namenode.rpc-address.ns.nn1", "a:8020"),
    ("dfs.namenode.rpc-address.ns.nn2", "b"),
];

fn map(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
    properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parse(location: &str, properties: &[(&str, &str)], site: &[(&str, &str)]) -> Result<Settings> {
    Settings::parse(location, &map(properties), map(site))
}

fn addresses(settings: &Settings) -> Vec<&str> {
    settings.cluster.namenodes.iter().map(|node| node.address.as_str()).collect()
}

#[test]
fn a_single_namenode_is_named_by_location_or_default() {
    let settings = parse("hdfs://h:9000/a/b/", &[("username", "u"), ("dfs.replication", "2")], &[]).unwrap();
    assert_eq!((settings.cluster.url.as_str(), settings.folder.as_str()), ("hdfs://h:9000", "/a/b"));
    assert_eq!((settings.cluster.user.as_deref(), settings.replication), (Some("u"), Some(2)));
    assert_eq!(settings.cluster.name(), "NameNode h:9000");
    assert_eq!(parse("hdfs://h", &[], &[]).unwrap().cluster.url, "hdfs://h:8020");
    assert_eq!(parse("hdfs://[::1]:9/x", &[], &[]).unwrap().cluster.url, "hdfs://[::1]:9");
    let default = [("fs.defaultFS", "hdfs://d:1/")];
    assert_eq!(parse("hdfs:///x", &default, &[]).unwrap().cluster.url, "hdfs://d:1");
    assert_eq!(parse("hdfs:///x", &[], &default).unwrap().cluster.url, "hdfs://d:1");
    assert_eq!(parse("hdfs://h:2/x", &default, &[]).unwrap().cluster.url, "hdfs://h:2");
    assert_eq!(parse("hdfs://h:2/", &[], &[]).unwrap().folder, "");
}

#[test]
fn a_nameservice_comes_from_properties_or_from_the_configuration_folder() {
    for (given, site) in [(&HA[..], &[][..]), (&[][..], &HA[..]), (&HA[1..], &[][..]), (&HA[2..], &HA[..2])] {
        let settings = parse("hdfs://ns/x", given, site).unwrap();
        assert_eq!(addresses(&settings), ["a:8020", "b:8020"]);
        assert_eq!(settings.cluster.url, "hdfs://ns");
        assert_eq!(settings.cluster.properties["dfs.ha.namenodes.ns"], "nn1,nn2");
        assert_eq!(settings.cluster.properties["dfs.client.failover.max.attempts"], "3");
        assert!(settings.cluster.name().contains("nameservice ns (NameNodes a:8020, b:8020)"));
    }
    let federated = [("dfs.nameservices", "x,ns"), ("dfs.namenode.rpc-address.ns", "c:1")];
    assert_eq!(addresses(&parse("hdfs://ns/", &federated, &[]).unwrap()), ["c:1"]);
    // A host that is no nameservice is fine when only the configuration folder lists nameservices.
    assert_eq!(addresses(&parse("hdfs://other/", &[], &HA).unwrap()), ["other:8020"]);
}

#[test]
fn what_the_repository_says_goes_before_the_configuration_folder() {
    let site = [("dfs.replication", "3"), ("dfs.blocksize", "64m"), ("dfs.client.use.datanode.hostname", "true")];
    let settings = parse("hdfs://h/x", &[("dfs.replication", "1")], &site).unwrap();
    assert_eq!((settings.replication, settings.block_bytes), (Some(1), Some(64 << 20)));
    assert!(settings.cluster.by_hostname());
    assert!(
        !parse("hdfs://h/x", &[("dfs.client.use.datanode.hostname", "false")], &site).unwrap().cluster.by_hostname()
    );
    assert_eq!(
        parse("hdfs://h/x", &[("dfs.client.socket-timeout", "7")], &[]).unwrap().cluster.properties["dfs.client.socket-timeout"],
        "7"
    );
}

#[test]
fn kerberos_needs_what_a_login_needs() {
    let secure = ("hadoop.security.authentication", "kerberos");
    let login = [secure, ("kerberos_principal", "u@R"), ("kerberos_keytab", "/k"), ("username", "other")];
    let settings = parse("hdfs://h/x", &login, &[]).unwrap();
    let kerberos = settings.cluster.kerberos.unwrap();
    assert_eq!((kerberos.principal.as_deref(), kerberos.keytab.as_deref()), (Some("u@R"), Some("/k")));
    assert_eq!(settings.cluster.user, None);
    // The keytab says it all; so does the folder's authentication; and a process may have tickets of its own.
    let implied = parse("hdfs://h/x", &login[1..3], &[("hadoop.security.authentication", "simple")]).unwrap();
    assert_eq!(implied.cluster.properties["hadoop.security.authentication"], "kerberos");
    assert!(parse("hdfs://h/x", &[], &[secure]).unwrap().cluster.kerberos.is_some());
    assert!(parse("hdfs://h/x", &[("hadoop.kerberos.principal", "u@R")], &[secure]).is_ok());
    assert!(
        parse("hdfs://h/x", &[("hadoop.security.authentication", "simple")], &[secure])
            .unwrap()
            .cluster
            .kerberos
            .is_none()
    );
    let content = [("kerberos_principal", "u@R"), ("kerberos_keytab_content", "hunter2")];
    let shown = format!("{:?}", parse("hdfs://h/x", &content, &[]).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_is_wrong_is_named() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case; 20] = [
        ("hdfs://h/x", &[("s3.endpoint", "x")], "property 's3.endpoint' is unknown"),
        ("hdfs://h/x", &[("username", " ")], "'username' is empty"),
        ("hdfs://h/x", &[("username", "a"), ("hadoop.username", "b")], "contradicts"),
        ("hdfs:///x", &[], "fs.defaultFS is not set"),
        ("hdfs:///x", &[("fs.defaultFS", "s3://b")], "fs.defaultFS = 's3://b'"),
        ("hdfs://h:port/x", &[], "malformed port 'port'"),
        ("hdfs://h:0/x", &[], "malformed port"),
        ("hdfs://u@h:1/x", &[], "malformed host 'u@h'"),
        ("hdfs://h:1/a//b", &[], "empty segment"),
        ("hdfs://h:1/a/../b", &[], "'..'"),
        ("hdfs://h:1/a:b", &[], "':'"),
        ("hdfs://ns/x", &HA[..1], "missed dfs.ha.namenodes.ns configuration"),
        ("hdfs://ns/x", &HA[..3], "missed dfs.namenode.rpc-address.ns.nn2 configuration"),
        ("hdfs://typo/x", &HA, "'typo', which is not among dfs.nameservices = ns"),
        (
            "hdfs://ns/x",
            &[("dfs.ha.namenodes.ns", "a"), ("dfs.namenode.rpc-address.ns.a", "h:x")],
            "malformed port 'x'",
        ),
        ("hdfs://h/x", &[("hadoop.security.authentication", "magic")], "invalid authentication:magic"),
        ("hdfs://h/x", &[("kerberos_keytab", "/k")], "principal is required"),
        ("hdfs://h/x", &[("hadoop.security.authentication", "simple"), ("kerberos_keytab", "/k")], "contradicts"),
        ("hdfs://h/x", &[("dfs.replication", "0")], "'dfs.replication' must be from 1"),
        ("hdfs://h/x", &[("dfs.replication", "many")], "must be a number"),
    ];
    for (location, properties, says) in cases {
        let error = parse(location, properties, &[]).unwrap_err();
        assert_eq!(error.kind(), coffer_stdx::ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
    }
}
