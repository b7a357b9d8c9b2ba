//! `s3://bucket/prefix` and its properties, checked: the only place that reads the property names of S3.
//!
//! Every property has one name of ours (`s3.*`) and those that scripts of operators use already, in any case. A property
//! that is not known is refused by name, because a misspelt key would otherwise fail much later and elsewhere.

use coffer_proto::v1::StorageSpec;
use coffer_stdx::secret::Secret;
use coffer_stdx::{Error, Result};

/// Names of the properties, ours first.
const ENDPOINT: [&str; 3] = ["s3.endpoint", "aws_endpoint", "bos_endpoint"];
const REGION: [&str; 2] = ["s3.region", "aws_region"];
const ACCESS_KEY: [&str; 3] = ["s3.access_key", "aws_access_key", "bos_accesskey"];
const SECRET_KEY: [&str; 3] = ["s3.secret_key", "aws_secret_key", "bos_secret_accesskey"];
const TOKEN: [&str; 3] = ["s3.session_token", "aws_token", "aws_session_token"];
const PATH_STYLE: [&str; 2] = ["use_path_style", "s3.use_path_style"];
/// What servers other than Amazon's accept as any region.
const ANY_REGION: &str = "us-east-1";

/// How to reach a bucket, and where in it.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(super) prefix: String,
    /// With its scheme; none for Amazon's own.
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) token: Option<Secret>,
    pub(super) path_style: bool,
}

impl Settings {
    pub(super) fn parse(spec: &StorageSpec) -> Result<Settings> {
        let (bucket, prefix) = bucket_and_prefix(&spec.location)?;
        refuse_unknown(spec)?;
        let endpoint = find(spec, &ENDPOINT)?.map(with_scheme);
        let region = match (find(spec, &REGION)?, &endpoint) {
            (Some(region), _) => region,
            (None, Some(_)) => ANY_REGION.to_owned(),
            (None, None) => return Err(missing(spec, "s3.region, or s3.endpoint")),
        };
        let (Some(access_key), Some(secret_key)) = (find(spec, &ACCESS_KEY)?, find(spec, &SECRET_KEY)?) else {
            return Err(Error::not_supported(format!(
                "location '{}' needs the properties s3.access_key and s3.secret_key: other sources of credentials are \
                 not supported yet",
                spec.location
            )));
        };
        let path_style = match find(spec, &PATH_STYLE)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                return Err(Error::invalid(format!("property use_path_style = '{other}' must be true or false")));
            }
        };
        Ok(Settings {
            bucket,
            prefix,
            endpoint,
            region,
            access_key,
            secret_key: Secret::new(secret_key),
            token: find(spec, &TOKEN)?.map(Secret::new),
            path_style,
        })
    }

    /// Whether this is Amazon's own service, which knows every checksum; others refuse some forms of them.
    pub(super) fn is_amazon(&self) -> bool {
        self.endpoint.as_deref().is_none_or(|endpoint| {
            let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
            let host = host.split(['/', ':']).next().unwrap_or(host);
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

fn bucket_and_prefix(location: &str) -> Result<(String, String)> {
    let rest = location.split_once("://").map_or("", |(_, rest)| rest);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::invalid(format!("location '{location}' must name a bucket, as in s3://bucket/prefix")));
    }
    let segments: Vec<&str> = prefix.split('/').filter(|segment| !segment.is_empty()).collect();
    let prefix = segments.join("/");
    crate::path::check_prefix(&prefix).map_err(|error| Error::invalid(format!("location '{location}': {error}")))?;
    Ok((bucket.to_owned(), prefix))
}

fn refuse_unknown(spec: &StorageSpec) -> Result<()> {
    let known = [&ENDPOINT[..], &REGION, &ACCESS_KEY, &SECRET_KEY, &TOKEN, &PATH_STYLE].concat();
    match spec.properties.keys().filter(|key| !known.contains(&key.to_ascii_lowercase().as_str())).min() {
        Some(key) => Err(Error::invalid(format!("property '{key}' is unknown for location '{}'", spec.location))),
        None => Ok(()),
    }
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

fn with_scheme(endpoint: String) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") }
}

fn missing(spec: &StorageSpec, names: &str) -> Error {
    Error::invalid(format!("location '{}' needs the property {names}", spec.location))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn parse(location: &str, properties: &[(&str, &str)]) -> Result<Settings> {
        let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Settings::parse(&StorageSpec { location: location.to_owned(), properties, ..StorageSpec::default() })
    }

    #[test]
    fn names_of_all_ages_mean_the_same() {
        for properties in [
            [("s3.endpoint", "http://h:9"), ("s3.access_key", "a"), ("s3.secret_key", "s"), ("s3.session_token", "t")],
            [("AWS_ENDPOINT", "http://h:9/"), ("AWS_ACCESS_KEY", "a"), ("AWS_SECRET_KEY", "s"), ("AWS_TOKEN", "t")],
            [("bos_endpoint", "http://h:9"), ("bos_accesskey", "a"), ("bos_secret_accesskey", "s"), ("aws_token", "t")],
        ] {
            let settings = parse("s3://bucket//a/b/", &properties).unwrap();
            assert_eq!((settings.bucket.as_str(), settings.prefix.as_str()), ("bucket", "a/b"));
            assert_eq!((settings.endpoint.as_deref(), settings.region.as_str()), (Some("http://h:9"), "us-east-1"));
            assert_eq!((settings.access_key.as_str(), settings.secret_key.reveal()), ("a", "s"));
            assert_eq!(settings.token, Some(Secret::new("t")));
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
            ("s3://b", keys[..2].to_vec(), ErrorKind::NotSupported, "s3.secret_key"),
        ] {
            let error = parse(location, &properties).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn settings_print_no_secret() {
        let keys =
            [("s3.endpoint", "h"), ("s3.access_key", "a"), ("s3.secret_key", "hunter2"), ("aws_token", "hunter3")];
        assert!(!format!("{:?}", parse("s3://b", &keys).unwrap()).contains("hunter"));
    }
}
