//! Clients that operators use, against the toy server: the mariadb shell, PyMySQL, MySQL's own Python connector.
//!
//! A client that is not installed is skipped, and said so. `MYSQL_PYTHON` names a Python that has the packages
//! PyMySQL and mysql-connector-python; `python3` is tried without it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared by several test programs")]
mod toy;

use coffer_mysql::Plugin;
use std::process::{Command, Output};

/// Run a client; `None` when it is not installed.
async fn run(mut command: Command) -> Option<Output> {
    let run = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    match run {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

async fn shell(port: u16, arguments: &[&str]) -> Option<(String, String)> {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", &format!("-P{port}")]).args(arguments);
    let output = run(command).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&output.stdout), text(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mariadb_shell_works() {
    for plugin in [Plugin::Native, Plugin::CachingSha2] {
        let port = toy::listen(0, plugin).await.unwrap();
        let Some((out, err)) = shell(port, &["-uroot", "-Ddb", "-e", "select user\\G"]).await else {
            eprintln!("SKIPPED: no mariadb client");
            return;
        };
        assert!(out.contains("user: root@db"), "{out} {err}");
        let (out, _) = shell(port, &["-uroot", "-N", "-e", "select 1; set x; select rows 2500"]).await.unwrap();
        assert!(out.starts_with("select 1\n0\trow 0\n") && out.ends_with("2499\trow 2499\n"));
        let (out, _) = shell(port, &["-uroot", "-N", "-e", "select types"]).await.unwrap();
        assert!(
            out.contains("-128\t-32768\t-2147483648\t-9223372036854775808\t18446744073709551615\t1.5\t-0.1\t"),
            "{out}"
        );
        assert!(out.contains("2024-02-29 23:59:58.120000\t-25:01:02.500000\tgrüße 🦀\t"), "{out}");
        let (_, err) = shell(port, &["-uroot", "-e", "select 1; boom; select 2"]).await.unwrap();
        assert!(err.contains("ERROR 1105 (HY000) at line 1: boom"), "{err}");
        for user in ["both", "native", "sha2"] {
            let (out, err) = shell(port, &["-u", user, "-psesam", "-N", "-e", "select user"]).await.unwrap();
            assert_eq!(out, format!("{user}@\n"), "{err}");
            let (_, err) = shell(port, &["-u", user, "-pwrong", "-e", "select user"]).await.unwrap();
            let denied = format!("Access denied for user '{user}'@'127.0.0.1' (using password: YES)");
            assert!(err.contains(&denied), "{err}");
        }
        let (_, err) = shell(port, &["-unobody", "-e", "select user"]).await.unwrap();
        assert!(err.contains("ERROR 1045 (28000)") && err.contains("(using password: NO)"), "{err}");
        let (_, err) = shell(port, &["-uroot", "-Dnowhere", "-e", "select user"]).await.unwrap();
        assert!(err.contains("ERROR 1049 (42000)"), "{err}");
        let mut command = Command::new("mariadb-admin");
        command.args([
            "--no-defaults",
            "--protocol=tcp",
            "-h127.0.0.1",
            &format!("-P{port}"),
            "-uroot",
            "ping",
            "status",
        ]);
        if let Some(output) = run(command).await {
            assert!(String::from_utf8_lossy(&output.stdout).contains("alive"), "{output:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_clients_work() {
    let python = std::env::var("MYSQL_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let native = toy::listen(0, Plugin::Native).await.unwrap();
    let sha2 = toy::listen(0, Plugin::CachingSha2).await.unwrap();
    let mut command = Command::new(python);
    // Asked at run time: a cached test may run in another checkout than it was built in.
    command.arg(format!("{}/tests/clients.py", std::env::var("CARGO_MANIFEST_DIR").unwrap()));
    command.args([native.to_string(), sha2.to_string()]);
    let Some(output) = run(command).await else {
        eprintln!("SKIPPED: no python3");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}");
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
}
