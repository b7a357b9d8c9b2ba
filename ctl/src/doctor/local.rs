//! Coffer on this machine: configuration files, the directories, the secret and the certificates they name, space, and what
//! running processes may open.

use super::finding::Finding;
use coffer_proto::tls::{self, TlsConfig};
use coffer_stdx::{Error, Result};
use std::path::{Path, PathBuf};

/// A directory with less free space is a problem, percent.
const FREE_PROBLEM: u64 = 8;
/// A directory with less free space is to be known, percent.
const FREE_WARNING: u64 = 20;
/// A process that may open fewer files will fail when there are many tablets or connections.
const MIN_OPEN_FILES: u64 = 65_536;
/// Programs, and the options of their configuration that name directories.
const ROLES: [(&str, &[&str]); 3] =
    [("fe", &["meta_dir", "audit_dir"]), ("be", &["data_dirs"]), ("broker", &["local_roots"])];

/// Everything that can be seen here.
pub(crate) fn look(config_dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (role, options) in ROLES {
        let path = config_dir.join(format!("{role}.toml"));
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let about = path.display().to_string();
        match directories(&text, options) {
            Ok(found) => {
                findings.push(Finding::ok("config", &about, "is readable"));
                findings.extend(found.iter().map(|dir| directory(dir)));
            }
            Err(error) => {
                let advice = format!("correct it: coffer-{role} will not start with it");
                findings.push(Finding::problem("config", &about, error.message(), &advice));
            }
        }
        findings.extend(host(role, &text, &about));
        findings.extend(secret(&text));
        findings.extend(certificates(&text, &about));
    }
    findings.extend(running().into_iter().filter_map(|(pid, name)| limits(pid, &name)));
    findings
}

/// The directories that a configuration names under some options.
fn directories(text: &str, options: &[&str]) -> Result<Vec<PathBuf>> {
    let table: toml::Table =
        toml::from_str(text).map_err(|error| Error::invalid(error.to_string().trim().replace('\n', " ")))?;
    let mut found = Vec::new();
    for value in options.iter().filter_map(|option| table.get(*option)) {
        let texts = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
        found.extend(
            texts.into_iter().filter_map(toml::Value::as_str).filter(|text| !text.is_empty()).map(PathBuf::from),
        );
    }
    Ok(found)
}

/// A frontend that tells others to find it on loopback is found by nobody.
fn host(role: &str, text: &str, about: &str) -> Option<Finding> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let host = table.get("host").and_then(toml::Value::as_str).unwrap_or("127.0.0.1");
    let loopback = host == "localhost" || host.starts_with("127.");
    (role == "fe" && loopback).then(|| {
        let found = format!("host = {host:?}: backends and clients on other machines are sent to themselves");
        Finding::warning("config", about, found, "set host to the name or address of this machine")
    })
}

/// The secret of the cluster that a configuration names, where this user may look at it.
fn secret(text: &str) -> Option<Finding> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let file = table.get("cluster_secret_file").and_then(toml::Value::as_str).filter(|file| !file.is_empty())?;
    if std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
        return None;
    }
    Some(match coffer_proto::secret::metrics_token_of(Path::new(file)) {
        Ok(_) => Finding::ok("secret", file, "is long and private"),
        Err(error) => {
            let advice =
                "the same file on every machine, mode 600, owned by the user coffer: deploy/README.md, section 2";
            Finding::problem("secret", file, error.message(), advice)
        }
    })
}

/// The certificates that a configuration names, where this user may look at them.
fn certificates(text: &str, about: &str) -> Option<Finding> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let config: TlsConfig = match table.get("tls")?.clone().try_into() {
        Ok(config) => config,
        Err(error) => {
            let found = format!("[tls]: {}", error.to_string().trim().replace('\n', " "));
            return Some(Finding::problem("tls", about, found, "correct it: the process will not start with it"));
        }
    };
    if config == TlsConfig::default() {
        return None;
    }
    let unseen = |file: &PathBuf| {
        std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    if unseen(&config.key_file) {
        return None;
    }
    Some(match tls::check(&config) {
        Ok(()) => Finding::ok("tls", about, "certificate and key belong together"),
        Err(error) => {
            let advice = "cofferctl certs makes them; the key has mode 600 and is owned by the user coffer";
            Finding::problem("tls", about, error.message(), advice)
        }
    })
}

fn directory(dir: &Path) -> Finding {
    let about = dir.display().to_string();
    match rustix::fs::statvfs(dir) {
        Err(error) => Finding::problem("disks", &about, error.to_string(), "make it, owned by the user coffer"),
        Ok(_) if dir.metadata().is_ok_and(|meta| !meta.is_dir()) => {
            Finding::problem("disks", &about, "is no directory", "name a directory")
        }
        Ok(stat) if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) => {
            Finding::problem("disks", &about, "is mounted read-only", "look at the kernel's log; mount it for writing")
        }
        Ok(stat) => space(&about, (stat.f_bavail, stat.f_blocks), (stat.f_favail, stat.f_files)),
    }
}

/// Judge free and all blocks, free and all inodes.
fn space(about: &str, blocks: (u64, u64), inodes: (u64, u64)) -> Finding {
    let share = |(free, all): (u64, u64)| free.saturating_mul(100).checked_div(all).unwrap_or(100);
    let (bytes, files) = (share(blocks), share(inodes));
    let found = format!("{bytes} % of space and {files} % of inodes are free");
    match bytes.min(files) {
        free if free < FREE_PROBLEM => Finding::problem("disks", about, found, "make room or add a directory; soon"),
        free if free < FREE_WARNING => Finding::warning("disks", about, found, "plan for more space"),
        _ => Finding::ok("disks", about, found),
    }
}

/// Processes of Coffer on this machine.
fn running() -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = pids.filter_map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned();
        ROLES.iter().any(|(role, _)| name == format!("coffer-{role}")).then_some((pid, name))
    });
    named.collect()
}

fn limits(pid: u32, name: &str) -> Option<Finding> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    Some(judge_limits(&format!("{name} (process {pid})"), open_files(&text)?))
}

/// The soft limit of open files in the text of `/proc/<pid>/limits`.
fn open_files(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = rest.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

fn judge_limits(about: &str, files: u64) -> Finding {
    if files >= MIN_OPEN_FILES {
        return Finding::ok("limits", about, format!("may open {files} files"));
    }
    let found = format!("may open {files} files; {MIN_OPEN_FILES} are needed");
    Finding::warning("limits", about, found, "LimitNOFILE=1048576 in its unit, or ulimit -n before it is started")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn configurations_name_directories() {
        let text = "data_dirs = [\"/a\", \"/b\"]\nmeta_dir = \"/m\"\naudit_dir = \"\"\n";
        let found = directories(text, &["data_dirs", "meta_dir", "audit_dir", "other"]).unwrap();
        assert_eq!(found, [PathBuf::from("/a"), PathBuf::from("/b"), PathBuf::from("/m")]);
        assert!(directories("data_dirs = [", &["data_dirs"]).is_err());
    }

    #[test]
    fn what_is_wrong_on_a_machine_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("fe.toml", "meta_dir = [");
        write("be.toml", &format!("data_dirs = [{data:?}, {:?}]", dir.path().join("gone")));
        write("broker.toml", &format!("local_roots = [{:?}]", dir.path().join("be.toml")));
        let findings = look(dir.path());
        let of = |part: &str| findings.iter().find(|f| format!("{} {}", f.about, f.found).contains(part)).unwrap();
        assert_eq!(of("fe.toml").level, Level::Problem);
        assert_eq!(of("/gone").level, Level::Problem);
        assert!(of("/be.toml is no directory").advice.contains("name a directory"));
        assert!(of("/data").found.contains("% of space"));
        assert_eq!(host("fe", "host = \"127.0.0.1\"", "f").unwrap().level, Level::Warning);
        assert_eq!(host("fe", "host = \"fe1\"", "f"), None);
        assert_eq!(host("be", "", "f"), None);
    }

    #[test]
    fn a_secret_that_nobody_could_use_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.secret");
        let look = || secret(&format!("cluster_secret_file = {file:?}")).unwrap();
        assert!(secret("").is_none() && secret("cluster_secret_file = \"\"").is_none());
        assert!(look().level == Level::Problem && look().found.contains("cofferctl secret new"), "{:?}", look());
        crate::secret::make(&file).unwrap();
        assert_eq!(look().level, Level::Ok);
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(look().level == Level::Problem && look().found.contains("chmod 600"), "{:?}", look());
    }

    #[test]
    fn certificates_that_cannot_work_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(certificates("", "f").is_none() && certificates("[tls]\nca_file = ''", "f").is_none());
        let gone = format!("[tls]\ncert_file = {0:?}\nkey_file = {0:?}", dir.path().join("none.pem"));
        for (text, says) in [
            (gone.as_str(), "none.pem"),
            ("[tls]\nhttps = true", "tls.https needs a certificate"),
            ("[tls]\nhttp = true", "unknown field"),
        ] {
            let found = certificates(text, "f").unwrap();
            assert!(found.level == Level::Problem && found.found.contains(says), "{found:?}");
        }
    }

    #[test]
    fn space_and_limits_are_judged() {
        let level = |bytes, files| space("d", (bytes, 100), (files, 100)).level;
        assert_eq!((level(50, 50), level(10, 50), level(50, 2)), (Level::Ok, Level::Warning, Level::Problem));
        assert_eq!(space("d", (0, 0), (0, 0)).level, Level::Ok);
        let text = "Limit   Soft   Hard\nMax open files            1024                 4096                 files\n";
        assert_eq!(open_files(text), Some(1024));
        assert_eq!(open_files(&text.replace("1024", "unlimited")), Some(u64::MAX));
        assert_eq!((judge_limits("p", 1024).level, judge_limits("p", 70_000).level), (Level::Warning, Level::Ok));
    }
}
