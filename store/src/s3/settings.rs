//! `s3://bucket/prefix` and its properties, checked: the only place that reads the property names of S3.
//!
//! Every property has one name of ours (`s3.*`) and those that scripts of operators use already, in any case. A property
//! that is not known is refused by name, because a misspelt key would otherwise fail much later and elsewhere.
//! `store/S3.md` lists them for operators.

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use coffer_proto::v1::StorageSpec;
use coffer_stdx::secret::Secret;
use coffer_stdx::{Error, Result};

/// Names of the properties, ours first.
const ENDPOINT: [&str; 4] = ["s3.endpoint", "aws_endpoint", "bos_endpoint", "aws.s3.endpoint"];
const REGION: [&str; 3] = ["s3.region", "aws_region", "aws.s3.region"];
const ACCESS_KEY: [&str; 4] = ["s3.access_key", "aws_access_key", "bos_accesskey", "aws.s3.access_key"];
const SECRET_KEY: [&str; 4] = ["s3.secret_key", "aws_secret_key", "bos_secret_accesskey", "aws.s3.secret_key"];
const TOKEN: [&str; 3] = ["s3.session_token", "aws_token", "aws_session_token"];
const PATH_STYLE: [&str; 3] = ["use_path_style", "s3.use_path_style", "aws.s3.enable_path_style_access"];
/// Which scheme an endpoint without one has.
const SSL: [&str; 1] = ["aws.s3.enable_ssl"];
/// Whether the keys come from the surroundings, which they do whenever no property holds them.
const SURROUNDINGS: [&str; 2] = ["aws.s3.use_instance_profile", "aws.s3.use_aws_sdk_default_behavior"];
/// Whose service it is: without effect, all speak the same protocol.
const PROVIDER: [&str; 2] = ["provider", "s3.provider"];
const ENCRYPTION: [&str; 1] = ["s3.server_side_encryption"];
const KMS_KEY: [&str; 1] = ["s3.kms_key_id"];
const STORAGE_CLASS: [&str; 1] = ["s3.storage_class"];
const CHECKSUMS: [&str; 1] = ["s3.checksums"];
const KNOWN: [&[&str]; 13] = [
    &ENDPOINT,
    &REGION,
    &ACCESS_KEY,
    &SECRET_KEY,
    &TOKEN,
    &PATH_STYLE,
    &SSL,
    &SURROUNDINGS,
    &PROVIDER,
    &ENCRYPTION,
    &KMS_KEY,
    &STORAGE_CLASS,
    &CHECKSUMS,
];
/// What servers other than Amazon's accept as any region.
const ANY_REGION: &str = "us-east-1";
/// Where a region comes from when no property names it, as in every tool of Amazon's.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// Longest bucket name; what S3 takes.
const MAX_BUCKET_BYTES: usize = 63;

/// How to reach a bucket, and where in it.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(super) prefix: String,
    /// With its scheme; none for Amazon's own.
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    /// None: from the surroundings of the process.
    pub(super) login: Option<Login>,
    pub(super) path_style: bool,
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    pub(super) storage_class: Option<StorageClass>,
    /// Send and check the newer checksums of S3 (CRC32).
    pub(super) checksums: bool,
}

/// Keys given as properties.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) token: Option<Secret>,
}

impl Settings {
    pub(super) fn parse(spec: &StorageSpec) -> Result<Settings> {
        Settings::parse_in(spec, |name| std::env::var(name).ok())
    }

    fn parse_in(spec: &StorageSpec, variable: impl Fn(&str) -> Option<String>) -> Result<Settings> {
        let (bucket, prefix) = bucket_and_prefix(&spec.location)?;
        refuse_unknown(spec)?;
        let ssl = flag(spec, &SSL)?;
        let endpoint = find(spec, &ENDPOINT)?.map(|endpoint| with_scheme(&endpoint, ssl)).transpose()?;
        if endpoint.is_none() && spec.location.starts_with("bos:") {
            return Err(missing(spec, "bos_endpoint, for instance s3.bj.bcebos.com"));
        }
        let surroundings =
            || REGION_VARIABLES.into_iter().find_map(|name| variable(name).filter(|set| !set.is_empty()));
        let region = match (find(spec, &REGION)?, &endpoint) {
            (Some(region), _) => region,
            (None, Some(endpoint)) => region_in(endpoint).unwrap_or_else(|| ANY_REGION.to_owned()),
            (None, None) => surroundings().ok_or_else(|| missing(spec, "s3.region, or s3.endpoint"))?,
        };
        let mut settings = Settings {
            bucket,
            prefix,
            endpoint,
            region,
            login: login(spec)?,
            path_style: flag(spec, &PATH_STYLE)?.unwrap_or(false),
            encryption: encryption(spec)?,
            kms_key: find(spec, &KMS_KEY)?,
            storage_class: find(spec, &STORAGE_CLASS)?.map(|class| StorageClass::from(class.as_str())),
            checksums: false,
        };
        settings.checksums = match find(spec, &CHECKSUMS)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("auto") => settings.is_amazon(),
            Some("always") => true,
            Some("never") => false,
            Some(other) => return Err(wrong(CHECKSUMS[0], other, "auto, always or never")),
        };
        Ok(settings)
    }

    /// Whether this is Amazon's own service, which knows every checksum; others refuse some forms of them.
    pub(super) fn is_amazon(&self) -> bool {
        self.endpoint.as_deref().is_none_or(|endpoint| {
            let host = host_of(endpoint);
            host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
        })
    }

    /// Whether the wire is encrypted, and with that the bytes of a body are guarded.
    pub(super) fn is_encrypted(&self) -> bool {
        self.endpoint.as_deref().is_none_or(|endpoint| endpoint.starts_with("https://"))
    }

    /// For error texts.
    pub(super) fn endpoint_name(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("S3 in {}", self.region))
    }
}

fn login(spec: &StorageSpec) -> Result<Option<Login>> {
    let token = find(spec, &TOKEN)?.map(Secret::new);
    for name in SURROUNDINGS {
        if flag(spec, &[name])? == Some(true) && (find(spec, &ACCESS_KEY)?.is_some() || token.is_some()) {
            return Err(Error::invalid(format!(
                "{name} = 'true' and s3.access_key say different things: leave one out"
            )));
        }
    }
    match (find(spec, &ACCESS_KEY)?, find(spec, &SECRET_KEY)?) {
        (Some(access_key), Some(secret_key)) => {
            Ok(Some(Login { access_key, secret_key: Secret::new(secret_key), token }))
        }
        (None, None) if token.is_none() => Ok(None),
        (Some(_), None) => Err(missing(spec, "s3.secret_key, because s3.access_key is given")),
        (None, _) => Err(missing(spec, "s3.access_key, because s3.secret_key or s3.session_token is given")),
    }
}

fn encryption(spec: &StorageSpec) -> Result<Option<ServerSideEncryption>> {
    let chosen = find(spec, &ENCRYPTION)?;
    let encryption = match chosen.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("aes256" | "sse-s3") => Some(ServerSideEncryption::Aes256),
        Some("aws:kms" | "sse-kms") => Some(ServerSideEncryption::AwsKms),
        Some("aws:kms:dsse") => Some(ServerSideEncryption::AwsKmsDsse),
        Some(other) => return Err(wrong(ENCRYPTION[0], other, "AES256, aws:kms or aws:kms:dsse")),
    };
    if find(spec, &KMS_KEY)?.is_some() && matches!(encryption, None | Some(ServerSideEncryption::Aes256)) {
        return Err(missing(spec, "s3.server_side_encryption = aws:kms, because s3.kms_key_id is given"));
    }
    Ok(encryption)
}

fn flag(spec: &StorageSpec, names: &[&str]) -> Result<Option<bool>> {
    match find(spec, names)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(wrong(names[0], other, "true or false")),
    }
}

fn bucket_and_prefix(location: &str) -> Result<(String, String)> {
    let rest = location.split_once("://").map_or("", |(_, rest)| rest);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::invalid(format!("location '{location}' must name a bucket, as in s3://bucket/prefix")));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if bucket.len() > MAX_BUCKET_BYTES || !bucket.bytes().all(fits) {
        return Err(Error::invalid(format!(
            "location '{location}': '{bucket}' is no name of a bucket: letters, digits, '-' and '.', at most 63; write \
             s3://bucket/prefix, and the server as the property s3.endpoint"
        )));
    }
    let segments: Vec<&str> = prefix.split('/').filter(|segment| !segment.is_empty()).collect();
    let prefix = segments.join("/");
    crate::path::check_prefix(&prefix).map_err(|error| Error::invalid(format!("location '{location}': {error}")))?;
    Ok((bucket.to_owned(), prefix))
}

fn refuse_unknown(spec: &StorageSpec) -> Result<()> {
    let is_known = |key: &&String| KNOWN.concat().contains(&key.to_ascii_lowercase().as_str());
    let Some(key) = spec.properties.keys().filter(|key| !is_known(key)).min() else { return Ok(()) };
    let ours: Vec<&str> = KNOWN.iter().map(|names| names[0]).collect();
    let (location, ours) = (&spec.location, ours.join(", "));
    Err(Error::invalid(format!("property '{key}' is unknown for location '{location}'; known are {ours}")))
}

/// The value of a property under any of its names; the same one twice with different values is refused.
fn find(spec: &StorageSpec, names: &[&str]) -> Result<Option<String>> {
    let mut found: Option<&str> = None;
    for (key, value) in &spec.properties {
        let value = value.trim();
        if !names.contains(&key.to_ascii_lowercase().as_str()) || value.is_empty() {
            continue;
        }
        if found.is_some_and(|other| other != value) {
            return Err(Error::invalid(format!("property {} is given twice, with different values", names[0])));
        }
        found = Some(value);
    }
    Ok(found.map(str::to_owned))
}

/// An endpoint in full. BOS speaks S3 on hosts of its own, `s3.<region>.bcebos.com`.
fn with_scheme(endpoint: &str, ssl: Option<bool>) -> Result<String> {
    let given = endpoint.trim_end_matches('/');
    let unwritten = if ssl == Some(false) { "http" } else { "https" };
    let (scheme, host) = given.split_once("://").unwrap_or((unwritten, given));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map(|(_, port)| port.parse::<u16>());
    if !matches!(scheme, "http" | "https")
        || host.is_empty()
        || !host.bytes().all(is_host)
        || matches!(port, Some(Err(_)))
    {
        return Err(wrong(ENDPOINT[0], endpoint, "host, host:port, http://host:port or https://host:port"));
    }
    if scheme == "http" && ssl == Some(true) {
        return Err(wrong(ENDPOINT[0], endpoint, "https://host:port, because aws.s3.enable_ssl = 'true'"));
    }
    match host.strip_suffix(".bcebos.com") {
        Some(region) if !region.contains('.') => Ok(format!("{scheme}://s3.{host}")),
        _ => Ok(format!("{scheme}://{host}")),
    }
}

fn host_of(endpoint: &str) -> &str {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    host.split(['/', ':']).next().unwrap_or(host)
}

/// The region in a host such as `s3.eu-west-1.amazonaws.com`.
fn region_in(endpoint: &str) -> Option<String> {
    let rest = host_of(endpoint).strip_prefix("s3.")?;
    let region =
        [".amazonaws.com", ".amazonaws.com.cn", ".bcebos.com"].iter().find_map(|end| rest.strip_suffix(end))?;
    (!region.is_empty() && !region.contains('.')).then(|| region.to_owned())
}

fn missing(spec: &StorageSpec, names: &str) -> Error {
    Error::invalid(format!("location '{}' needs the property {names}", spec.location))
}

fn wrong(name: &str, value: &str, wanted: &str) -> Error {
    Error::invalid(format!("property {name} = '{value}' must be {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn parse(location: &str, properties: &[(&str, &str)]) -> Result<Settings> {
        let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let spec = StorageSpec { location: location.to_owned(), properties, ..StorageSpec::default() };
        Settings::parse_in(&spec, |_| None)
    }

    #[test]
    fn names_of_all_ages_mean_the_same() {
        for properties in [
            [("s3.endpoint", "http://h:9"), ("s3.access_key", "a"), ("s3.secret_key", "s"), ("s3.session_token", "t")],
            [("AWS_ENDPOINT", "http://h:9/"), ("AWS_ACCESS_KEY", "a"), ("AWS_SECRET_KEY", "s"), ("AWS_TOKEN", "t")],
            [("bos_endpoint", "http://h:9"), ("bos_accesskey", "a"), ("bos_secret_accesskey", "s"), ("aws_token", "t")],
            [
                ("aws.s3.endpoint", "http://h:9"),
                ("aws.s3.access_key", "a"),
                ("aws.s3.secret_key", "s"),
                ("s3.session_token", "t"),
            ],
        ] {
            let settings = parse("s3://bucket//a/b/", &properties).unwrap();
            assert_eq!((settings.bucket.as_str(), settings.prefix.as_str()), ("bucket", "a/b"));
            assert_eq!((settings.endpoint.as_deref(), settings.region.as_str()), (Some("http://h:9"), "us-east-1"));
            let login = settings.login.as_ref().unwrap();
            assert_eq!((login.access_key.as_str(), login.secret_key.reveal()), ("a", "s"));
            assert_eq!(login.token, Some(Secret::new("t")));
            assert!(!settings.path_style && !settings.is_amazon() && !settings.is_encrypted());
        }
    }

    #[test]
    fn amazon_needs_a_region_and_others_do_not() {
        let keys = [("s3.access_key", "a"), ("s3.secret_key", "s")];
        assert!(parse("s3://b", &keys).unwrap_err().message().contains("s3.region"));
        let amazon = parse("s3://b", &[&keys[..], &[("s3.region", "eu-west-1")]].concat()).unwrap();
        assert!(amazon.is_amazon() && amazon.is_encrypted());
        let named =
            [("s3.endpoint", "s3.eu-west-1.amazonaws.com"), ("s3.region", "eu-west-1"), ("use_path_style", "TRUE")];
        let named = parse("s3://b", &[&keys[..], &named].concat()).unwrap();
        assert!(named.is_amazon() && named.path_style);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let keys = [("s3.endpoint", "h"), ("s3.access_key", "a"), ("s3.secret_key", "s")];
        let with = |key, value| [&keys[..], &[(key, value)]].concat();
        for (location, properties, kind, says) in [
            ("s3://", keys.to_vec(), ErrorKind::Invalid, "bucket"),
            ("s3://b/../c", keys.to_vec(), ErrorKind::Invalid, ".."),
            ("s3://b", with("s3.acces_key", "x"), ErrorKind::Invalid, "'s3.acces_key' is unknown"),
            ("s3://b", with("use_path_style", "maybe"), ErrorKind::Invalid, "maybe"),
            ("s3://b", with("AWS_ENDPOINT", "other"), ErrorKind::Invalid, "s3.endpoint is given twice"),
            ("s3://b", keys[..2].to_vec(), ErrorKind::Invalid, "s3.secret_key"),
            ("s3://b", vec![keys[0], keys[2]], ErrorKind::Invalid, "s3.access_key"),
            ("s3://b", vec![keys[0], ("AWS_TOKEN", "t")], ErrorKind::Invalid, "s3.access_key"),
            ("s3://host:9000/b", keys.to_vec(), ErrorKind::Invalid, "'host:9000' is no name of a bucket"),
            ("s3://b c/d", keys.to_vec(), ErrorKind::Invalid, "'b c' is no name of a bucket"),
            ("s3://b", with("s3.checksums", "md5"), ErrorKind::Invalid, "auto, always or never"),
            ("s3://b", with("s3.server_side_encryption", "rot13"), ErrorKind::Invalid, "AES256"),
            ("s3://b", with("s3.kms_key_id", "k"), ErrorKind::Invalid, "s3.server_side_encryption"),
            ("bos://b/p", keys[1..].to_vec(), ErrorKind::Invalid, "bos_endpoint"),
            ("s3://b", vec![("s3.endpoint", "ftp://h")], ErrorKind::Invalid, "http://host:port"),
            ("s3://b", vec![("s3.endpoint", "http://h:99999")], ErrorKind::Invalid, "http://host:port"),
            ("s3://b", vec![("s3.endpoint", "http://h/path")], ErrorKind::Invalid, "http://host:port"),
        ] {
            let error = parse(location, &properties).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn other_systems_names_are_read() {
        let keys = [("aws.s3.access_key", "a"), ("aws.s3.secret_key", "s"), ("provider", "MinIO")];
        let with = |more: &[(&str, &str)]| parse("s3://b", &[&keys[..], more].concat());
        let plain = [("aws.s3.endpoint", "h:9"), ("aws.s3.enable_ssl", "false")];
        let settings = with(&[&plain[..], &[("aws.s3.enable_path_style_access", "true")]].concat()).unwrap();
        assert_eq!((settings.endpoint.as_deref(), settings.path_style), (Some("http://h:9"), true));
        let encrypted = with(&[("aws.s3.endpoint", "h:9"), ("aws.s3.enable_ssl", "true")]).unwrap();
        assert!(encrypted.is_encrypted() && !encrypted.path_style);
        let region = with(&[("aws.s3.region", "eu-west-1"), ("aws.s3.use_instance_profile", "false")]).unwrap();
        assert!(region.is_amazon() && region.login.is_some());
        let profile = [("aws.s3.region", "eu-west-1"), ("aws.s3.use_instance_profile", "true")];
        assert!(parse("s3://b", &profile).unwrap().login.is_none());
        for (more, says) in [
            (vec![("aws.s3.endpoint", "http://h"), ("aws.s3.enable_ssl", "true")], "enable_ssl"),
            (profile.to_vec(), "use_instance_profile"),
            (vec![("aws.s3.region", "x"), ("aws.s3.use_aws_sdk_default_behavior", "true")], "default_behavior"),
            (vec![("aws.s3.region", "x"), ("aws.s3.use_instance_profile", "maybe")], "maybe"),
        ] {
            let error = with(&more).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn settings_print_no_secret() {
        let keys =
            [("s3.endpoint", "h"), ("s3.access_key", "a"), ("s3.secret_key", "hunter2"), ("aws_token", "hunter3")];
        assert!(!format!("{:?}", parse("s3://b", &keys).unwrap()).contains("hunter"));
    }

    #[test]
    fn regions_come_from_properties_hosts_and_the_surroundings() {
        let region = |properties: &[(&str, &str)], variable: Option<&str>| {
            let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let spec = StorageSpec { location: "s3://b".to_owned(), properties, ..StorageSpec::default() };
            Settings::parse_in(&spec, |_| variable.map(str::to_owned)).map(|settings| settings.region)
        };
        let host = ("s3.endpoint", "https://s3.eu-west-1.amazonaws.com");
        assert_eq!(region(&[host], None).unwrap(), "eu-west-1");
        assert_eq!(region(&[host, ("s3.region", "x")], None).unwrap(), "x");
        assert_eq!(region(&[], Some("eu-north-1")).unwrap(), "eu-north-1");
        assert!(region(&[], None).is_err());
    }

    #[test]
    fn bos_is_s3_on_a_host_of_its_own() {
        let keys = [("bos_endpoint", "http://bj.bcebos.com"), ("bos_accesskey", "a"), ("bos_secret_accesskey", "s")];
        let settings = parse("bos://bucket/path/to", &keys).unwrap();
        assert_eq!(settings.endpoint.as_deref(), Some("http://s3.bj.bcebos.com"));
        assert_eq!((settings.region.as_str(), settings.prefix.as_str()), ("bj", "path/to"));
        assert!(!settings.checksums);
    }

    #[test]
    fn options_of_objects_are_read() {
        let properties = [
            ("s3.endpoint", "h"),
            ("s3.server_side_encryption", "aws:kms"),
            ("s3.kms_key_id", "k"),
            ("s3.storage_class", "STANDARD_IA"),
            ("s3.checksums", "always"),
        ];
        let settings = parse("s3://b", &properties).unwrap();
        assert_eq!(settings.encryption, Some(ServerSideEncryption::AwsKms));
        assert_eq!((settings.kms_key.as_deref(), settings.checksums), (Some("k"), true));
        assert_eq!(settings.storage_class, Some(StorageClass::StandardIa));
        assert!(settings.login.is_none());
    }
}
