//! `cofferctl certs`: a small certificate authority for one cluster, and a certificate for each of its machines.
//!
//! `DIR/ca.pem` and `DIR/ca.key` are made once and used by every later run, so that machines can be added; per name there is
//! `DIR/NAME.pem` and `DIR/NAME.key`. Only `ca.pem` and the two files of a machine go to that machine; `ca.key` stays where
//! the operator keeps it. Every certificate is for both ends of a connection. A run that stops half-way leaves whole files;
//! the next one goes on, and replaces no certificate unless told to.

use crate::cli::CertsArgs;
use crate::screen;
use crate::secret::private;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::io::Write;
use std::path::Path;

/// How long an authority is good, days.
const AUTHORITY_DAYS: i64 = 20 * 365;
/// Certificates are good from so long ago, days: clocks differ.
const SINCE_DAYS: i64 = 1;
const AUTHORITY: &str = "Coffer cluster authority";

/// Make what is missing.
pub(crate) fn run(args: &CertsArgs) -> Result<()> {
    let dir = std::path::absolute(&args.dir).context(|| format!("directory {}", args.dir.display()))?;
    fsx::create_dir(&dir)?;
    let authority = authority(&dir)?;
    for host in &args.hosts {
        let (name, names) = names(host)?;
        let [pem, key] = ["pem", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
        if args.renew {
            for path in [&key, &pem].into_iter().filter(|path| path.exists()) {
                std::fs::remove_file(path).context(|| format!("remove {}", path.display()))?;
            }
        } else if pem.exists() {
            screen::line(&format!("{} exists; --renew makes a new one", pem.display()));
            continue;
        }
        let pair = KeyPair::generate().map_err(|error| failed("make a key", &error))?;
        let certificate = leaf(&names, args.days)?.signed_by(&pair, &authority);
        let certificate = certificate.map_err(|error| failed("sign a certificate", &error))?;
        if key.exists() {
            // Of a run that stopped before the certificate.
            std::fs::remove_file(&key).context(|| format!("remove {}", key.display()))?;
        }
        write_private(&key, &pair.serialize_pem())?;
        fsx::write_durably(&pem, certificate.pem().as_bytes())?;
        screen::line(&format!("{} for {}, {} days", pem.display(), names.join(", "), args.days));
    }
    Ok(())
}

/// `NAME` or `NAME=ALIAS,ALIAS`: the name of the files, and all names and addresses the machine is reached under.
fn names(host: &str) -> Result<(String, Vec<String>)> {
    let (name, aliases) = host.split_once('=').unwrap_or((host, ""));
    let good = |name: &str| {
        !name.is_empty()
            && !name.starts_with(['.', '-'])
            && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c))
    };
    let all: Vec<String> = std::iter::once(name).chain(aliases.split(',')).map(str::trim).map(str::to_owned).collect();
    let all: Vec<String> = all.into_iter().filter(|name| !name.is_empty()).collect();
    if !good(name) || !all.iter().all(|name| good(name)) || name == "ca" {
        return Err(Error::invalid(format!("'{host}' must be NAME or NAME=ALIAS,...: host names and addresses")));
    }
    Ok((name.to_owned(), all))
}

fn failed(what: &str, error: &rcgen::Error) -> Error {
    Error::invalid(format!("{what}: {error}"))
}

/// The authority of the directory, made when there is none.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>> {
    let [pem, key] = ["ca.pem", "ca.key"].map(|name| dir.join(name));
    if pem.exists() {
        let text = std::fs::read_to_string(&key).context(|| format!("the key of the authority, {}", key.display()))?;
        let pair = KeyPair::from_pem(&text).map_err(|error| failed(&key.display().to_string(), &error))?;
        return Ok(Issuer::new(authority_params()?, pair));
    }
    let pair = match std::fs::read_to_string(&key) {
        // Of a run that stopped before the certificate.
        Ok(text) => KeyPair::from_pem(&text).map_err(|error| failed(&key.display().to_string(), &error))?,
        Err(_) => {
            let pair = KeyPair::generate().map_err(|error| failed("make a key", &error))?;
            write_private(&key, &pair.serialize_pem())?;
            pair
        }
    };
    let params = authority_params()?;
    let certificate = params.self_signed(&pair).map_err(|error| failed("make the authority", &error))?;
    fsx::write_durably(&pem, certificate.pem().as_bytes())?;
    screen::line(&format!("{} is the authority; keep {} to yourself", pem.display(), key.display()));
    Ok(Issuer::new(params, pair))
}

fn authority_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(|error| failed("the authority", &error))?;
    params.distinguished_name = named(AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, AUTHORITY_DAYS)?;
    Ok(params)
}

fn leaf(names: &[String], days: u32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| failed("a name", &error))?;
    params.distinguished_name = named(names.first().map_or("coffer", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, i64::from(days))?;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn valid(params: &mut CertificateParams, days: i64) -> Result<()> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let at = |offset: i64| {
        let date = jiff::Span::new().try_days(offset).and_then(|span| today.checked_add(span));
        let date = date.map_err(|error| Error::invalid(format!("{days} days: {error}")))?;
        Ok::<_, Error>(date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs()))
    };
    (params.not_before, params.not_after) = (at(-SINCE_DAYS)?, at(days)?);
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = private(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn hosts_have_aliases() {
        assert_eq!(names("be1=10.0.0.1, be1.example.com").unwrap().1, ["be1", "10.0.0.1", "be1.example.com"]);
        assert_eq!(names("10.0.0.1").unwrap(), ("10.0.0.1".to_owned(), vec!["10.0.0.1".to_owned()]));
        for wrong in ["", "=x", "../x", "a b", "ca", "a=b/c", "-x"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_authority_is_made_once_and_certificates_are_replaced_on_request_only() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let run = |hosts: &[&str], renew| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            run(&CertsArgs { dir: dir.path().to_owned(), hosts, days: 90, renew }).unwrap();
        };
        run(&["a=127.0.0.1"], false);
        let before = ["ca.pem", "ca.key", "a.pem", "a.key"].map(read);
        run(&["a=127.0.0.1", "b"], false);
        assert_eq!(["ca.pem", "ca.key", "a.pem", "a.key"].map(read), before);
        run(&["a"], true);
        assert!(read("ca.pem") == before[0] && read("a.pem") != before[2] && read("a.key") != before[3]);
        for name in ["ca.key", "a.key", "b.key"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
