//! What the SDK says when a request fails, as our errors: the only place that knows S3's error codes.
//!
//! The error text names the operation, the object, the endpoint and the cause at the bottom of the SDK's chain, because
//! "dispatch failure" helps nobody.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use coffer_stdx::{Error, ErrorKind};
use std::error::Error as StdError;
use std::time::SystemTime;

/// A clock that is off by more is why a service refuses requests.
const CLOCKS_DIFFER_SECONDS: i64 = 240;

/// A request that failed: what it wanted, at which endpoint.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// "put s3://bucket/key".
    pub(super) doing: String,
    pub(super) endpoint: String,
    pub(super) bucket: String,
    /// Whether the keys came as properties, not from the surroundings.
    pub(super) has_keys: bool,
}

/// A failed request as an error of ours, with the code the server gave.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) code: String,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

impl Request {
    /// No answer came in time.
    pub(super) fn late(&self, seconds: u64) -> Failure {
        let message = format!("{}: {} did not answer within {seconds} s", self.doing, self.endpoint);
        Failure { error: Error::timeout(message), code: String::new() }
    }

    /// The SDK's error.
    pub(super) fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let Some(raw) = error.raw_response() else { return self.unanswered(&error) };
        let status = raw.status().as_u16();
        let code = error.code().unwrap_or_default().to_owned();
        let said = error.message().unwrap_or_default();
        let kind = kind(&code, status);
        let cause = match (code.as_str(), said) {
            ("", "") if status == 200 => format!("an answer that is not understood: {}", root_cause(&error)),
            ("", "") => status_text(status).to_owned(),
            (code, "") => code.to_owned(),
            ("", said) => said.to_owned(),
            (code, said) => format!("{code}: {said}"),
        };
        let header = |name: &str| raw.headers().get(name).unwrap_or_default();
        let told = Told { status, region: header("x-amz-bucket-region"), ahead: seconds_ahead(header("date")) };
        let advice = self.advice(kind, &code, &told);
        let message = format!("{}: endpoint {} answered {status}: {cause}{advice}", self.doing, self.endpoint);
        Failure { error: Error::new(kind, message), code }
    }

    /// No answer came: why, and what to do about it.
    fn unanswered<E>(&self, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: StdError + Send + Sync + 'static,
    {
        let cause = root_cause(error);
        let chain = chain(error);
        let (kind, what) = match error {
            // The SDK looks for credentials before it sends anything.
            _ if !self.has_keys && is_about_credentials(&chain) => {
                let what = "no credentials: neither s3.access_key and s3.secret_key are given, nor does this host have \
                            any (environment, profile, container or instance role)";
                (ErrorKind::Denied, what)
            }
            SdkError::ConstructionFailure(_) => (ErrorKind::Invalid, "the request cannot be made"),
            SdkError::TimeoutError(_) => (ErrorKind::Unavailable, "no answer in time"),
            _ => (ErrorKind::Unavailable, "it cannot be reached"),
        };
        let lower = chain.to_ascii_lowercase();
        let advice = if kind == ErrorKind::Denied {
            ""
        } else if lower.contains("certificate") {
            "; add its authority to the certificates of this host, or name the file in the variable SSL_CERT_FILE of this \
             process"
        } else if lower.contains("invalidcontenttype") || lower.contains("corrupt message") {
            "; it does not speak https: write s3.endpoint as http://host:port"
        } else if self.endpoint.starts_with("https://") {
            "; check s3.endpoint (http://host:port for a server that does not speak https), and that this host may reach it"
        } else {
            "; check s3.endpoint, and that this host may reach it"
        };
        let message = format!("{}: endpoint {}: {what}: {cause}{advice}", self.doing, self.endpoint);
        Failure { error: Error::new(kind, message), code: String::new() }
    }

    /// One of many objects in a request was refused.
    pub(super) fn refused(&self, key: Option<&str>, code: Option<&str>, said: Option<&str>) -> Failure {
        let [key, code, said] = [key, code, said].map(Option::unwrap_or_default);
        // Such errors have no status of their own; what is not in the table is a failure of the server.
        let kind = kind(code, 500);
        let message = format!("{}: endpoint {} refused '{key}': {code}: {said}", self.doing, self.endpoint);
        Failure { error: Error::new(kind, message), code: code.to_owned() }
    }

    /// The body of an answer ended before its end.
    pub(super) fn broke_off(&self, error: &(dyn StdError + 'static)) -> Error {
        let cause = root_cause(error);
        Error::unavailable(format!("{}: endpoint {}: the body broke off: {cause}", self.doing, self.endpoint))
    }

    fn advice(&self, kind: ErrorKind, code: &str, told: &Told<'_>) -> String {
        let bucket = &self.bucket;
        match (kind, code) {
            (_, "NoSuchBucket") => format!("; create the bucket '{bucket}' first, or correct the location"),
            (ErrorKind::Denied, _) | (_, "RequestTimeTooSkewed") if told.clocks_differ() => {
                let (seconds, side) = (told.ahead.abs(), if told.ahead > 0 { "ahead of" } else { "behind" });
                format!("; the clock of this host is {seconds} s {side} that of the service: set it")
            }
            (_, "RequestTimeTooSkewed") => "; set the clock of this host".to_owned(),
            (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException")
            | (ErrorKind::Invalid, _)
                if !told.region.is_empty() =>
            {
                format!("; the bucket '{bucket}' is in region {}: set s3.region to it", told.region)
            }
            (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException") => {
                "; set s3.region to the region of the bucket, and s3.endpoint to that of its region".to_owned()
            }
            (ErrorKind::Invalid, _) if matches!(told.status, 301 | 307) => {
                "; check s3.region and s3.endpoint".to_owned()
            }
            (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired") => {
                "; the session token has expired: set a new s3.session_token with its s3.access_key and s3.secret_key"
                    .to_owned()
            }
            (_, "InvalidAccessKeyId") => "; check s3.access_key".to_owned(),
            (_, "SignatureDoesNotMatch") => "; check s3.secret_key".to_owned(),
            (_, "InvalidToken") => "; check s3.session_token".to_owned(),
            (ErrorKind::Denied, _) => format!("; check the keys and what they may do in the bucket '{bucket}'"),
            (ErrorKind::NoSpace, _) => format!("; free space in the bucket '{bucket}', or raise its quota"),
            _ => String::new(),
        }
    }
}

/// What an answer says beside its code.
struct Told<'a> {
    status: u16,
    /// Of the bucket; empty when not told.
    region: &'a str,
    /// Seconds that this host's clock is ahead of the service's.
    ahead: i64,
}

impl Told<'_> {
    fn clocks_differ(&self) -> bool {
        self.ahead.abs() > CLOCKS_DIFFER_SECONDS
    }
}

fn seconds_ahead(date: &str) -> i64 {
    let there = DateTime::from_str(date, DateTimeFormat::HttpDate).map(|date| date.secs());
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs() as i64);
    match (here, there) {
        (Ok(here), Ok(there)) => here - there,
        _ => 0,
    }
}

fn is_about_credentials(chain: &str) -> bool {
    let chain = chain.to_ascii_lowercase();
    chain.contains("credential") || chain.contains("identity")
}

/// The kind of a code, else of a status. Codes come first: a server may send a code under an unusual status.
fn kind(code: &str, status: u16) -> ErrorKind {
    match code {
        "NoSuchKey" | "NoSuchBucket" | "NoSuchUpload" | "NotFound" => ErrorKind::NotFound,
        "AccessDenied"
        | "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "RequestExpired"
        | "InvalidToken"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "RequestTimeTooSkewed" => ErrorKind::Denied,
        "PreconditionFailed" => ErrorKind::AlreadyExists,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestTimeout"
        | "InternalError"
        | "ServiceUnavailable"
        | "RequestLimitExceeded"
        | "ConditionalRequestConflict"
        | "OperationAborted" => ErrorKind::Unavailable,
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" => ErrorKind::NoSpace,
        "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
            ErrorKind::Corrupt
        }
        "NotImplemented" | "MethodNotAllowed" => ErrorKind::NotSupported,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::NotSupported,
        409 | 429 => ErrorKind::Unavailable,
        412 => ErrorKind::AlreadyExists,
        507 => ErrorKind::NoSpace,
        // 200 with an answer that is not one: a proxy's page, or a body that broke off.
        200..=299 | 408 | 500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    }
}

fn status_text(status: u16) -> &'static str {
    match status {
        401 | 403 => "access denied",
        404 => "the object, or the bucket, does not exist",
        412 => "the object exists already",
        500..=599 => "the server failed",
        _ => "no reason given",
    }
}

/// All texts of a chain of errors.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let (mut texts, mut at) = (error.to_string(), error);
    while let Some(source) = at.source() {
        texts = format!("{texts}: {source}");
        at = source;
    }
    texts
}

/// The text at the bottom of a chain of errors, where the useful part is.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        for (code, status, wanted) in [
            ("NoSuchKey", 404, ErrorKind::NotFound),
            ("", 404, ErrorKind::NotFound),
            ("SignatureDoesNotMatch", 403, ErrorKind::Denied),
            ("InvalidAccessKeyId", 400, ErrorKind::Denied),
            ("SlowDown", 503, ErrorKind::Unavailable),
            ("", 503, ErrorKind::Unavailable),
            ("InternalError", 200, ErrorKind::Unavailable),
            ("PreconditionFailed", 412, ErrorKind::AlreadyExists),
            ("ConditionalRequestConflict", 409, ErrorKind::Unavailable),
            ("NotImplemented", 501, ErrorKind::NotSupported),
            ("InvalidArgument", 400, ErrorKind::Invalid),
            ("QuotaExceeded", 403, ErrorKind::NoSpace),
        ] {
            assert_eq!(kind(code, status), wanted, "{code} {status}");
        }
    }
}
