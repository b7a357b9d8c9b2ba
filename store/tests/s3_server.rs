//! S3 on a real server, beyond the contract: what an operator's surroundings do to it.
//!
//! Credentials and certificates from the surroundings are read by the process, so these tests run in children of their
//! own: the test `child` does what a variable says, and is started by the others.

use coffer_proto::v1::StorageSpec;
use coffer_stdx::{Error, ErrorKind, Result, testing};
use coffer_store::s3::{S3Store, Sizes};
use coffer_store::suite::Suite;
use coffer_store::{Budget, LocalAccess, PutOptions, Store, from_bytes, open, read_all};
use futures::{StreamExt, TryStreamExt, stream};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What an error may take at most, and a lot for a loaded machine.
const SOON: Duration = Duration::from_secs(60);

fn variable(name: &str) -> String {
    std::env::var(format!("COFFER_TEST_S3{name}")).unwrap_or_default()
}

fn spec(endpoint: &str, keys: bool, prefix: &str) -> StorageSpec {
    let (key, secret) = (variable("_KEY"), variable("_SECRET"));
    let mut properties = vec![("s3.endpoint", endpoint), ("use_path_style", "true")];
    if keys {
        properties.extend([("s3.access_key", key.as_str()), ("s3.secret_key", secret.as_str())]);
    }
    StorageSpec {
        location: format!("s3://{}/{prefix}", variable("_BUCKET")),
        properties: properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..StorageSpec::default()
    }
}

fn at(endpoint: &str, keys: bool) -> Result<Arc<dyn Store>> {
    open(&spec(endpoint, keys, &uuid::Uuid::new_v4().to_string()), &LocalAccess::default())
}

async fn round_trip(store: &dyn Store) -> Result<()> {
    store.put("a/b", from_bytes("hello"), PutOptions::default()).await?;
    assert_eq!(read_all(store, "a/b", 5).await?, "hello");
    store.delete("a", true).await
}

/// Run the test `child` in a process with these variables and no others that matter.
async fn run_child(what: &str, variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args(["child", "--exact", "--nocapture", "--include-ignored"]).env("COFFER_TEST_CHILD", what);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    // Neither the user's own files nor the machine's role may decide the outcome.
    command.envs([("AWS_CONFIG_FILE", "/nonexistent"), ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")]);
    command.envs(variables.iter().copied()).kill_on_drop(true);
    let ended = tokio::time::timeout(SOON * 2, command.output()).await;
    Ok(ended.map_err(|_| Error::timeout("the child did not end"))??)
}

#[tokio::test]
#[ignore = "started by the others, in a process of its own"]
async fn child() -> Result<()> {
    let outcome = match std::env::var("COFFER_TEST_CHILD").unwrap_or_default().as_str() {
        "surroundings" => round_trip(&*at(&variable(""), false)?).await,
        "tls" => round_trip(&*at(&variable("_TLS"), true)?).await,
        other => Err(Error::invalid(format!("no such child: {other}"))),
    };
    #[allow(clippy::print_stdout, reason = "what the parent reads")]
    {
        println!("outcome: {outcome:?}");
    }
    Ok(())
}

fn succeeded(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("outcome: Ok(())"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn keys_come_from_the_environment() -> Result<()> {
    if testing::server("COFFER_TEST_S3", "s3_server::keys_come_from_the_environment").is_none() {
        return Ok(());
    }
    let (key, secret) = (variable("_KEY"), variable("_SECRET"));
    let keys = [("AWS_ACCESS_KEY_ID", key.as_str()), ("AWS_SECRET_ACCESS_KEY", secret.as_str())];
    succeeded(&run_child("surroundings", &keys).await?);
    Ok(())
}

/// A metadata service of a cloud machine, as far as roles go.
async fn metadata_service(key: String, secret: String) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (key, secret) = (key.clone(), secret.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else { return };
                    request.push(byte);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let (status, body) = match path {
                    "/latest/api/token" => ("200 OK", "a-token".to_owned()),
                    path if path.ends_with("/security-credentials-extended/")
                        || path.ends_with("/security-credentials/") =>
                    {
                        ("200 OK", "backup-role".to_owned())
                    }
                    path if path.ends_with("/backup-role") => (
                        "200 OK",
                        format!(
                            "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\
                             \"AccessKeyId\":\"{key}\",\"SecretAccessKey\":\"{secret}\",\"Token\":\"\",\
                             \"AccountId\":\"1\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}"
                        ),
                    ),
                    _ => ("404 Not Found", String::new()),
                };
                let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\n{ttl}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(format!("http://{address}"))
}

#[tokio::test]
async fn keys_come_from_the_role_of_the_machine() -> Result<()> {
    if testing::server("COFFER_TEST_S3", "s3_server::keys_come_from_the_role_of_the_machine").is_none() {
        return Ok(());
    }
    // The real server knows no tokens of roles; an empty one is none.
    let service = metadata_service(variable("_KEY"), variable("_SECRET")).await?;
    succeeded(&run_child("surroundings", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.as_str())]).await?);
    Ok(())
}

#[tokio::test]
async fn without_any_keys_the_error_says_where_they_were_looked_for() -> Result<()> {
    // A metadata service that never answers, as on a machine that is in no cloud.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let begun = Instant::now();
    let variables = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str()),
        ("COFFER_TEST_S3", endpoint.as_str()),
        ("COFFER_TEST_S3_BUCKET", "bucket"),
    ];
    let output = run_child("surroundings", &variables).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("kind: Denied") && said.contains("no credentials"), "{said}");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn certificates_are_checked_and_an_authority_can_be_named() -> Result<()> {
    if testing::server("COFFER_TEST_S3_TLS", "s3_server::certificates_are_checked").is_none() {
        return Ok(());
    }
    succeeded(&run_child("tls", &[("SSL_CERT_FILE", variable("_CA").as_str())]).await?);
    let refused = run_child("tls", &[("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")]).await?;
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("kind: Unavailable") && said.contains("SSL_CERT_FILE"), "{said}");
    Ok(())
}

#[tokio::test]
async fn abandoned_uploads_are_swept_and_others_left() -> Result<()> {
    let test = "s3_server::abandoned_uploads_are_swept_and_others_left";
    let Some(endpoint) = testing::server("COFFER_TEST_S3", test) else { return Ok(()) };
    let prefix = uuid::Uuid::new_v4().to_string();
    let store = S3Store::open(&spec(&endpoint, true, &prefix), &Budget::new(64 << 20))?;
    let (reached, mut halted) = tokio::sync::mpsc::channel(1);
    let body = stream::once(async { Ok(bytes::Bytes::from(vec![7; 9 << 20])) }).chain(stream::once(async move {
        let _ = reached.send(()).await;
        std::future::pending().await
    }));
    // A put whose process dies here: it never gets to abort its upload.
    let dying = S3Store::open(&spec(&endpoint, true, &prefix), &Budget::new(64 << 20))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let put = runtime.spawn(async move { dying.put("a/b", body.boxed(), PutOptions::default()).await });
    halted.recv().await.expect("the put asks for more");
    runtime.shutdown_background();
    drop(put);
    assert_eq!(store.sweep(Duration::from_secs(3600)).await?, 0, "a young upload may be somebody's");
    assert_eq!(store.sweep(Duration::ZERO).await?, 1);
    assert_eq!(store.sweep(Duration::ZERO).await?, 0);
    let left: Vec<_> = store.list("").await?.try_collect().await?;
    assert_eq!(left, []);
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_to_copy_at_once_is_renamed_too() -> Result<()> {
    let test = "s3_server::what_is_too_large_to_copy_at_once_is_renamed_too";
    let Some(endpoint) = testing::server("COFFER_TEST_S3", test) else { return Ok(()) };
    let spec = spec(&endpoint, true, &uuid::Uuid::new_v4().to_string());
    let sizes = Sizes { largest_copy: 5 << 20, ..Sizes::default() };
    let store = S3Store::open_with(&spec, &Budget::new(64 << 20), sizes)?;
    let bytes: Vec<u8> = (0..(11 << 20) + 5_u32).map(|at| (at >> 8) as u8 ^ at as u8).collect();
    store.put("from %/x", from_bytes(bytes.clone()), PutOptions::default()).await?;
    store.rename("from %/x", "to").await?;
    assert!(read_all(&store, "to", u64::MAX).await? == bytes);
    assert_eq!(store.stat("from %/x").await.unwrap_err().kind(), ErrorKind::NotFound);
    store.delete("to", false).await
}

#[tokio::test]
async fn what_is_wrong_is_told_by_the_real_server_too() -> Result<()> {
    let test = "s3_server::what_is_wrong_is_told_by_the_real_server_too";
    let Some(endpoint) = testing::server("COFFER_TEST_S3", test) else { return Ok(()) };
    let keys = spec(&endpoint, true, "p");
    let with = |name: &str, value: &str| {
        let mut spec = keys.clone();
        spec.properties.insert(name.to_owned(), value.to_owned());
        spec
    };
    let no_bucket = StorageSpec { location: "s3://no-such-bucket/p".to_owned(), ..keys.clone() };
    for (spec, kind, says) in [
        (no_bucket, ErrorKind::NotFound, "create the bucket 'no-such-bucket' first"),
        (with("s3.access_key", "wrong"), ErrorKind::Denied, "check s3.access_key"),
        (with("s3.secret_key", "wrong"), ErrorKind::Denied, "check s3.secret_key"),
    ] {
        let store = open(&spec, &LocalAccess::default())?;
        let list = async { store.list("").await?.try_collect::<Vec<_>>().await }.await.unwrap_err();
        let put = store.put("a", from_bytes("x"), PutOptions::default()).await.unwrap_err();
        for error in [list, put] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(says), "{error}");
        }
    }
    Ok(())
}

/// On a scale of one to 1,024: parts of 8 KiB instead of 8 MiB, and an object of a little more than 5 MiB. 640 parts of
/// the smallest size, which are 5 GiB otherwise, are followed by parts of twice the size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_the_class_of_5_gib_goes_by_its_hundreds_of_parts() -> Result<()> {
    let test = "s3_server::an_object_of_the_class_of_5_gib_goes_by_its_hundreds_of_parts";
    let Some(endpoint) = testing::server("COFFER_TEST_S3", test) else { return Ok(()) };
    let spec = spec(&endpoint, true, &uuid::Uuid::new_v4().to_string());
    let sizes = Sizes { smallest_part: 8 << 10, ..Sizes::default() };
    let store = S3Store::open_with(&spec, &Budget::new(64 << 20), sizes)?;
    let bytes = (5 << 20) + 3 * (16 << 10) + 77;
    Suite::new(Arc::new(store), "suite").big(bytes).only("big").run().await
}

/// A bucket that may hold 1 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_full_says_so_and_shows_nothing_of_the_object() -> Result<()> {
    let test = "s3_server::a_bucket_that_is_full_says_so_and_shows_nothing_of_the_object";
    let Some(endpoint) = testing::server("COFFER_TEST_S3", test) else { return Ok(()) };
    let prefix = uuid::Uuid::new_v4();
    let spec =
        StorageSpec { location: format!("s3://{}/{prefix}", variable("_FULL_BUCKET")), ..spec(&endpoint, true, "") };
    let store = open(&spec, &LocalAccess::default())?;
    store.put("kept", from_bytes("x"), PutOptions::default()).await?;
    // By one request, and by many parts of which the first fit.
    let scaled = Sizes { smallest_part: 64 << 10, ..Sizes::default() };
    let by_parts: Arc<dyn Store> = Arc::new(S3Store::open_with(&spec, &Budget::new(64 << 20), scaled)?);
    for writer in [&store, &by_parts] {
        let put = writer.put("large", from_bytes(vec![7; 3 << 20]), PutOptions::default());
        let error = tokio::time::timeout(SOON, put).await.expect("it hangs").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        let wanted = ["QuotaExceeded", &endpoint, "free space in the bucket", "raise its quota", &prefix.to_string()];
        for part in wanted {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        assert!(!error.message().contains('\n'), "{error}");
        let left: Vec<_> = store.list("").await?.map_ok(|object| object.path).try_collect().await?;
        assert_eq!(left, ["kept"]);
    }
    store.delete("kept", false).await
}
