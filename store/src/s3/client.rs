//! The SDK's client for one location: credentials, checksums, timeouts.

use super::settings::Settings;
use super::{CONNECT_WITHIN, STALL};
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Endpoint, EndpointFuture, Params, ResolveEndpoint};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder as HttpClient;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::time::Duration;

/// For finding credentials in the surroundings; shorter than any request may take, so that its error is the one shown.
const CREDENTIALS_WITHIN: Duration = Duration::from_secs(6);

/// A client for the location; nothing is connected yet. Certificates are checked against those of this host, or the
/// file in `SSL_CERT_FILE`.
pub(super) async fn client(settings: &Settings) -> Client {
    let http = HttpClient::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_with_resolver(Names);
    let (send, expect) = match settings.checksums {
        true => (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported),
        // Many services refuse, or silently keep, the framing that checksums of streams come in.
        false => (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired),
    };
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials(settings, &http).await)
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_WITHIN).build())
        .http_client(http)
        .region(Region::new(settings.region.clone()))
        .endpoint_resolver(OneBucket::default())
        .force_path_style(settings.path_style)
        .request_checksum_calculation(send)
        .response_checksum_validation(expect)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_WITHIN).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALL).build());
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

/// Where requests go. The SDK works that out for each of them, as what it keeps is bound to the name of the object. All
/// requests of a client are for one bucket, so the first answer holds for all; only Amazon's directory buckets have
/// operations that go elsewhere.
#[derive(Debug, Default)]
struct OneBucket {
    rules: DefaultResolver,
    found: OnceLock<Endpoint>,
}

impl ResolveEndpoint for OneBucket {
    fn resolve_endpoint<'a>(&'a self, params: &'a Params) -> EndpointFuture<'a> {
        if let Some(endpoint) = self.found.get() {
            return EndpointFuture::ready(Ok(endpoint.clone()));
        }
        EndpointFuture::new(async move {
            let endpoint = self.rules.resolve_endpoint(params).await?;
            if params.bucket().is_some_and(|bucket| !bucket.ends_with("--x-s3")) {
                // Another request may have been quicker, with the same outcome.
                let _ = self.found.set(endpoint.clone());
            }
            Ok(endpoint)
        })
    }
}

/// Names of hosts as everybody resolves them, and every `bucket.localhost` as this host, whatever its name service says
/// (RFC 6761): a server on this host can then be asked with the bucket in the host.
#[derive(Debug, Clone, Copy)]
struct Names;

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        if name.to_ascii_lowercase().ends_with(".localhost") {
            return DnsFuture::ready(Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(ResolveDnsError::new)?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The keys of the properties, else what the surroundings have: environment, profile files, web identity, the role of a
/// container or of the machine. Those are found when they are first needed, and again before they expire.
async fn credentials(settings: &Settings, http: &SharedHttpClient) -> SharedCredentialsProvider {
    if let Some(login) = &settings.login {
        let token = login.token.as_ref().map(|token| token.reveal().to_owned());
        let keys = (login.access_key.clone(), login.secret_key.reveal());
        return SharedCredentialsProvider::new(Credentials::new(keys.0, keys.1, token, None, "properties"));
    }
    let region = Region::new(settings.region.clone());
    let surroundings =
        ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(http.clone());
    let chain = DefaultCredentialsChain::builder().configure(surroundings).region(region).build().await;
    SharedCredentialsProvider::new(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::presigning::PresigningConfig;
    use coffer_proto::v1::StorageSpec;

    /// Where a request for the object `a b` goes.
    async fn uri(properties: &[(&str, &str)]) -> String {
        let keys = [("s3.access_key", "a"), ("s3.secret_key", "hunter2"), ("s3.session_token", "t0ken")];
        let all = keys.iter().chain(properties);
        let properties = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let spec = StorageSpec { location: "s3://bucket".to_owned(), properties, ..StorageSpec::default() };
        let client = client(&Settings::parse(&spec).unwrap()).await;
        let signed = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        client.get_object().bucket("bucket").key("a b").presigned(signed).await.unwrap().uri().to_owned()
    }

    #[tokio::test]
    async fn buckets_are_in_the_path_or_in_the_host() {
        let host = ("s3.endpoint", "http://minio.example:9000");
        assert!(uri(&[host]).await.starts_with("http://bucket.minio.example:9000/a%20b?"));
        let path = uri(&[host, ("use_path_style", "true")]).await;
        assert!(path.starts_with("http://minio.example:9000/bucket/a%20b?"), "{path}");
        assert!(path.contains("X-Amz-Security-Token=t0ken") && path.contains("%2Fus-east-1%2Fs3%2F"), "{path}");
        let amazon = uri(&[("s3.region", "eu-west-1")]).await;
        assert!(amazon.starts_with("https://bucket.s3.eu-west-1.amazonaws.com/a%20b?"), "{amazon}");
    }
}
