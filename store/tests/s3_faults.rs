//! S3 when it does not go well: a server that answers each request from a script.

use coffer_proto::v1::StorageSpec;
use coffer_stdx::{ErrorKind, Result};
use coffer_store::{LocalAccess, PutOptions, Store, from_bytes, open, read_all};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

type Requests = Arc<Mutex<Vec<String>>>;

/// A store in front of a server that gives these answers, one to each request, and keeps the requests' heads.
async fn scripted(answers: Vec<String>) -> Result<(Arc<dyn Store>, Requests)> {
    scripted_with(answers, &[]).await
}

async fn scripted_with(answers: Vec<String>, more: &[(&str, &str)]) -> Result<(Arc<dyn Store>, Requests)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        for answer in answers {
            let (connection, _) = listener.accept().await?;
            let head = exchange(connection, &answer).await?;
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        }
        std::io::Result::Ok(())
    });
    let properties = [
        ("s3.endpoint", endpoint.as_str()),
        ("s3.access_key", "key"),
        ("s3.secret_key", "hunter2"),
        ("use_path_style", "true"),
    ];
    let spec = StorageSpec {
        location: "s3://bucket/p".to_owned(),
        properties: properties
            .iter()
            .chain(more)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..StorageSpec::default()
    };
    Ok((open(&spec, &LocalAccess::default())?, requests))
}

async fn exchange(connection: TcpStream, answer: &str) -> std::io::Result<String> {
    let mut connection = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).await? == 0 {
            break;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await?;
    Ok(head)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn refusal(status: &str, code: &str) -> String {
    let said = "said so";
    answer(status, "", &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{said}</Message></Error>"))
}

#[tokio::test]
async fn a_service_that_asks_to_slow_down_is_asked_again() -> Result<()> {
    let slow = refusal("503 Slow Down", "SlowDown");
    let (store, requests) = scripted(vec![slow.clone(), slow, answer("200 OK", "", "")]).await?;
    store.put("a", from_bytes("body"), PutOptions::default()).await?;
    assert_eq!(requests.lock().unwrap().len(), 3);
    Ok(())
}

#[tokio::test]
async fn refusals_have_the_right_kind_and_name_code_endpoint_and_bucket() -> Result<()> {
    for (status, code, kind) in [
        ("403 Forbidden", "SignatureDoesNotMatch", ErrorKind::Denied),
        ("404 Not Found", "NoSuchBucket", ErrorKind::NotFound),
        ("404 Not Found", "NoSuchKey", ErrorKind::NotFound),
        ("400 Bad Request", "AuthorizationHeaderMalformed", ErrorKind::Invalid),
    ] {
        let (store, requests) = scripted(vec![refusal(status, code); 2]).await?;
        let error = store.get("a", None).await.err().unwrap();
        assert_eq!(requests.lock().unwrap().len(), 1, "{code} must not be tried again");
        assert_eq!(error.kind(), kind, "{error}");
        for part in [code, "said so", "s3://bucket/p/a", "http://127.0.0.1:"] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        assert!(!error.message().contains("hunter2"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_race_for_a_new_object_is_told() -> Result<()> {
    let absent = answer("404 Not Found", "", "");
    let (store, requests) = scripted(vec![absent, refusal("412 Precondition Failed", "PreconditionFailed")]).await?;
    let options = PutOptions { create_new: true, length_hint: None };
    let error = store.put("a", from_bytes("body"), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(requests.lock().unwrap()[1].contains("if-none-match: *"));
    Ok(())
}

#[tokio::test]
async fn a_body_that_breaks_off_is_taken_up_where_it_broke() -> Result<()> {
    let broken = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\n0123".to_owned();
    let rest = answer("206 Partial Content", "content-range: bytes 4-9/10\r\n", "456789");
    let (store, requests) = scripted(vec![broken, rest]).await?;
    assert_eq!(read_all(&*store, "a", 10).await?, "0123456789");
    assert!(requests.lock().unwrap()[1].contains("range: bytes=4-\r\n"));
    Ok(())
}

#[tokio::test]
async fn a_web_site_is_no_object_store() -> Result<()> {
    let page = answer("200 OK", "content-type: text/html\r\n", "<html><body>It works!</body></html>");
    let (store, _) = scripted(vec![page.clone(); 4]).await?;
    let listed: Result<Vec<_>> = async { store.list("").await?.try_collect().await }.await;
    assert!(listed.is_err(), "it must not look like an empty bucket: {listed:?}");
    Ok(())
}

#[tokio::test]
async fn an_upload_whose_body_fails_is_aborted() -> Result<()> {
    let stored = answer("200 OK", "etag: \"e\"\r\n", "");
    let script = vec![answer("200 OK", "", BEGUN), stored, answer("204 No Content", "", "")];
    let (store, requests) = scripted(script).await?;
    // The failure must wait until the first part is on its way: parts that never began need no answer.
    let seen = Arc::clone(&requests);
    let failing = stream::once(async move {
        while seen.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        Err(coffer_stdx::Error::cancelled("stop"))
    });
    let body = stream::once(async { Ok(bytes::Bytes::from(vec![1; 9 << 20])) }).chain(failing).boxed();
    let error = store.put("a", body, PutOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    let requests = requests.lock().unwrap();
    assert!(requests[2].starts_with("delete /bucket/p/a?") && requests[2].contains("uploadid=u1"), "{}", requests[2]);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told_with_what_to_do() -> Result<()> {
    let refused = |status: &str, headers: &str, code: &str| {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
        answer(status, headers, &body)
    };
    let long_ago = "date: Tue, 01 Jan 2019 00:00:00 GMT\r\n";
    for (answer, kind, says) in [
        (refused("400 Bad Request", "", "ExpiredToken"), ErrorKind::Denied, "set a new s3.session_token"),
        (refused("403 Forbidden", "", "InvalidAccessKeyId"), ErrorKind::Denied, "check s3.access_key"),
        (refused("403 Forbidden", "", "SignatureDoesNotMatch"), ErrorKind::Denied, "check s3.secret_key"),
        (refused("403 Forbidden", long_ago, "RequestTimeTooSkewed"), ErrorKind::Denied, "ahead of that of the service"),
        (refused("403 Forbidden", long_ago, "AccessDenied"), ErrorKind::Denied, "the clock of this host is"),
        (
            refused("301 Moved Permanently", "x-amz-bucket-region: eu-west-1\r\n", "PermanentRedirect"),
            ErrorKind::Invalid,
            "is in region eu-west-1: set s3.region",
        ),
        (refused("400 Bad Request", "", "AuthorizationHeaderMalformed"), ErrorKind::Invalid, "set s3.region"),
        (refused("403 Forbidden", "", "QuotaExceeded"), ErrorKind::NoSpace, "raise its quota"),
        (refused("404 Not Found", "", "NoSuchBucket"), ErrorKind::NotFound, "create the bucket 'bucket' first"),
    ] {
        let (store, _) = scripted(vec![answer]).await?;
        let error = store.put("a", from_bytes("x"), PutOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
        assert!(!error.message().contains('\n'), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up_in_time() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let properties = [("s3.endpoint", endpoint.as_str()), ("s3.access_key", "k"), ("s3.secret_key", "s")];
    let spec = StorageSpec {
        location: "s3://bucket/p".to_owned(),
        properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..StorageSpec::default()
    };
    let store = open(&spec, &LocalAccess::default())?;
    let all = async {
        tokio::join!(
            async { store.stat("a").await.map(drop) },
            async { store.list("").await?.try_collect::<Vec<_>>().await.map(drop) },
            async { store.put("a", from_bytes("x"), PutOptions::default()).await.map(drop) },
            async { store.delete("a", false).await },
        )
    };
    // Seventeen seconds when nothing else runs.
    let (stat, list, put, delete) = tokio::time::timeout(std::time::Duration::from_secs(40), all).await.unwrap();
    for outcome in [stat, list, put, delete] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.message().contains(&endpoint), "{error}");
    }
    Ok(())
}

const BEGUN: &str =
    "<?xml version=\"1.0\"?><InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";

#[tokio::test]
async fn options_of_objects_go_with_every_way_to_make_one() -> Result<()> {
    let options = [
        ("s3.server_side_encryption", "aws:kms"),
        ("s3.kms_key_id", "k1"),
        ("s3.storage_class", "STANDARD_IA"),
        ("s3.session_token", "t0ken"),
    ];
    let stored = answer("200 OK", "etag: \"e\"\r\n", "");
    let copied = answer("200 OK", "", "<?xml version=\"1.0\"?><CopyObjectResult><ETag>e</ETag></CopyObjectResult>");
    let head = answer("200 OK", "", "");
    let script = vec![stored, head, copied, answer("204 No Content", "", "")];
    let (store, requests) = scripted_with(script, &options).await?;
    store.put("a", from_bytes("x"), PutOptions::default()).await?;
    store.rename("a", "b").await?;
    let requests = requests.lock().unwrap();
    for at in [0, 2] {
        for header in [
            "x-amz-server-side-encryption: aws:kms\r\n",
            "x-amz-server-side-encryption-aws-kms-key-id: k1\r\n",
            "x-amz-storage-class: standard_ia\r\n",
            "x-amz-security-token: t0ken\r\n",
        ] {
            assert!(requests[at].contains(header), "{header} in {}", requests[at]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn parts_are_tried_again_and_garbled_ones_sent_again() -> Result<()> {
    let stored = answer("200 OK", "etag: \"e\"\r\n", "");
    let (store, requests) = scripted(vec![
        refusal("400 Bad Request", "BadDigest"),
        refusal("500 Internal Server Error", "InternalError"),
        refusal("503 Service Unavailable", "SlowDown"),
        stored,
    ])
    .await?;
    store.put("a", from_bytes(vec![1; 3 << 20]), PutOptions::default()).await?;
    assert_eq!(requests.lock().unwrap().len(), 4);
    Ok(())
}

#[tokio::test]
async fn checksums_are_sent_where_they_are_wanted() -> Result<()> {
    for (value, sent) in [("always", true), ("never", false), ("auto", false)] {
        let (store, requests) = scripted_with(vec![answer("200 OK", "", "")], &[("s3.checksums", value)]).await?;
        store.put("a", from_bytes("x"), PutOptions::default()).await?;
        let request = requests.lock().unwrap()[0].clone();
        assert_eq!(request.contains("x-amz-checksum-crc32: "), sent, "{request}");
        assert!(!request.contains("aws-chunked"), "{request}");
        // Over a plain wire the signature covers the bytes in any case.
        assert!(!request.contains("unsigned-payload"), "{request}");
    }
    Ok(())
}
