//! The S3 server that `tests/run` starts, as its environment variables tell of it.

use coffer_stdx::testing;

/// A running S3 server.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `http://host:port`.
    pub endpoint: String,
    /// A bucket for everything.
    pub bucket: String,
    /// A bucket that takes 1 MiB in all.
    pub full_bucket: String,
    /// The access key of who may use them.
    pub key: String,
    /// Its secret.
    pub secret: String,
}

impl S3 {
    /// The server for the test of this name; without one it is reported as skipped.
    pub fn of(test: &str) -> Option<S3> {
        let endpoint = testing::server("COFFER_TEST_S3", test)?;
        let variable = |name: &str| std::env::var(format!("COFFER_TEST_S3_{name}")).unwrap_or_default();
        let (bucket, full_bucket) = (variable("BUCKET"), variable("FULL_BUCKET"));
        Some(S3 { endpoint, bucket, full_bucket, key: variable("KEY"), secret: variable("SECRET") })
    }

    /// The statement that makes repository `r` there; `access` is `S3` or `BROKER b`, `place` a bucket with a prefix.
    pub fn create_repository(&self, access: &str, place: &str) -> String {
        format!(
            "CREATE REPOSITORY r WITH {access} ON LOCATION \"s3://{place}\" PROPERTIES (\
             \"s3.endpoint\" = \"{}\", \"s3.region\" = \"us-east-1\", \"s3.access_key\" = \"{}\", \
             \"s3.secret_key\" = \"{}\", \"use_path_style\" = \"true\")",
            self.endpoint, self.key, self.secret
        )
    }

    /// `bucket/prefix` for this test process alone.
    pub fn place(&self, bucket: &str, suffix: &str) -> String {
        format!("{bucket}/{}{suffix}", std::process::id())
    }
}
