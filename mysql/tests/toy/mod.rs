//! A service small enough to see through: it answers with what the protocol tests want to read back.
//!
//! `select forever` (no answer), `select slowly` (others get their turn first), `select types` (a row of every type, a row of NULLs), `select rows N`, `select big BYTES`, `boom` (an error),
//! `select ...` (the text itself), anything else is done with one row affected.

use async_trait::async_trait;
use bytes::Bytes;
use coffer_mysql::error::{ACCESS_DENIED, UNKNOWN, UNKNOWN_DATABASE};
use coffer_mysql::{
    Client, Column, ColumnType, Credentials, Done, Peer, Plugin, Reply, Row, ServerError, ServerOptions, Service,
    Session, Value, serve,
};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Users: `root` without a password, `both`, `native` and `sha2` with the password `sesam`.
#[derive(Debug)]
pub(crate) struct Toy;

#[async_trait]
impl Service for Toy {
    async fn credentials(&self, user: &str, _host: &str) -> Result<Option<Credentials>, ServerError> {
        let sesam = Credentials::of_password("sesam");
        Ok(match user {
            "root" => Some(Credentials::EMPTY),
            "both" => Some(sesam),
            "native" => Some(Credentials::from_digests(sesam.native(), None)),
            "sha2" => Some(Credentials::from_digests(None, sesam.sha2())),
            _ => None,
        })
    }

    async fn open(&self, client: Client) -> Result<Box<dyn Session>, ServerError> {
        if client.host == "closed" {
            return Err(ACCESS_DENIED.error("closed"));
        }
        Ok(Box::new(ToySession { user: client.user, database: String::new() }))
    }
}

struct ToySession {
    user: String,
    database: String,
}

#[async_trait]
impl Session for ToySession {
    async fn use_database(&mut self, name: &str) -> Result<(), ServerError> {
        if name == "nowhere" {
            return Err(UNKNOWN_DATABASE.error("Unknown database 'nowhere'"));
        }
        name.clone_into(&mut self.database);
        Ok(())
    }

    fn may_abandon(&self, sql: &str) -> bool {
        sql.starts_with("select")
    }

    async fn query(&mut self, sql: &str) -> Result<Reply, ServerError> {
        let words: Vec<&str> = sql.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
        Ok(match words[..] {
            ["select", "forever"] => std::future::pending().await,
            ["select", "slowly"] => {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                single("text", Value::text(sql))
            }
            ["select", "endless"] => Reply::stream(vec![Column::text("n")], Box::pin(futures::stream::pending())),
            ["select", "types"] => types(),
            ["select", "rows", _] => rows(number(2)),
            ["select", "big", _] => single("big", Value::text("x".repeat(number(2)))),
            ["select", "user"] => single("user", Value::text(format!("{}@{}", self.user, self.database))),
            ["boom", ..] => return Err(UNKNOWN.error("boom")),
            [first, ..] if first.eq_ignore_ascii_case("select") => single("text", Value::text(sql)),
            _ => Reply::Done(Done { affected: 1, warnings: 0, info: "Rows matched: 1".to_owned() }),
        })
    }

    async fn reset(&mut self) -> Result<(), ServerError> {
        Ok(())
    }
}

fn single(name: &str, value: Value) -> Reply {
    Reply::rows(vec![Column::text(name)], vec![vec![value]])
}

/// Batches of at most 1000 rows.
fn rows(count: usize) -> Reply {
    let batches = (0..count).step_by(1000).map(move |start| {
        Ok((start..count.min(start + 1000))
            .map(|n| vec![Value::from(n as u64), Value::text(format!("row {n}"))])
            .collect())
    });
    let columns = vec![Column::new("n", ColumnType::LongLong).unsigned(), Column::text("t")];
    Reply::stream(columns, Box::pin(futures::stream::iter(batches)))
}

fn types() -> Reply {
    let mut bytes = Column::new("bytes", ColumnType::Blob);
    bytes.binary = true;
    let moment = Value::DateTime { year: 2024, month: 2, day: 29, hour: 23, minute: 59, second: 58, micros: 120_000 };
    let fields: Vec<(Column, Value)> = vec![
        (Column::new("tiny", ColumnType::Tiny), Value::from(-128_i8)),
        (Column::new("short", ColumnType::Short), Value::from(-32_768_i16)),
        (Column::new("long", ColumnType::Long), Value::from(i32::MIN)),
        (Column::new("longlong", ColumnType::LongLong), Value::from(i64::MIN)),
        (Column::new("ulonglong", ColumnType::LongLong).unsigned(), Value::from(u64::MAX)),
        (Column::new("float", ColumnType::Float), Value::from(1.5_f32)),
        (Column::new("double", ColumnType::Double), Value::from(-0.1_f64)),
        (Column::new("decimal", ColumnType::Decimal).decimals(2), Value::text("12345678901234567890.25")),
        (Column::new("date", ColumnType::Date), Value::Date { year: 2024, month: 2, day: 29 }),
        (Column::new("datetime", ColumnType::DateTime).decimals(6), moment),
        (
            Column::new("time", ColumnType::Time).decimals(6),
            Value::Time { negative: true, hours: 25, minute: 1, second: 2, micros: 500_000 },
        ),
        (Column::text("text"), Value::text("grüße 🦀")),
        (Column::new("json", ColumnType::Json), Value::text("{\"a\": 1}")),
        (bytes, Value::Bytes(Bytes::from_static(&[0, 255, 1]))),
    ];
    let (columns, values): (Vec<Column>, Row) = fields.into_iter().unzip();
    let nulls = vec![Value::Null; values.len()];
    Reply::rows(columns, vec![values, nulls])
}

/// Listen on a port of the system's choice (or `port`), serving for ever; the port.
pub(crate) async fn listen(port: u16, plugin: Plugin) -> std::io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let port = listener.local_addr()?.port();
    let options = Arc::new(ServerOptions { plugin, ..ServerOptions::default() });
    tokio::spawn(async move {
        let mut connection = 0;
        while let Ok((stream, address)) = listener.accept().await {
            connection += 1;
            let options = Arc::clone(&options);
            let peer = Peer { connection, host: address.ip().to_string() };
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                serve(stream, peer, &options, &Toy, std::future::pending()).await
            });
        }
    });
    Ok(port)
}
