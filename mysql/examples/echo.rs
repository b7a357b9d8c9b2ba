//! The toy server of the tests, to point any client at: `cargo run -p coffer-mysql --example echo`, then
//! `mysql --protocol=tcp -h 127.0.0.1 -P 9931 -u root` (greets with mysql_native_password; 9932 greets with
//! caching_sha2_password).

#[allow(dead_code, reason = "shared by several test programs")]
#[path = "../tests/toy/mod.rs"]
mod toy;

use coffer_mysql::Plugin;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    toy::listen(9931, Plugin::Native).await?;
    toy::listen(9932, Plugin::CachingSha2).await?;
    std::future::pending().await
}
