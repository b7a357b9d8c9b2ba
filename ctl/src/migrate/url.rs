//! `mysql://user:password@host:port`, as it is written on the command line. Pure.

use crate::sql::Login;
use coffer_stdx::{Error, Result};

/// The port when none is written.
const PORT: u16 = 9030;

/// Read an address. A password in it wins over `password`. Characters may be written as `%41`.
pub(super) fn parse(text: &str, password: &str) -> Result<Login> {
    let wrong = |what: &str| Error::invalid(format!("{what}; write it as mysql://user[:password]@host[:port]"));
    let rest = text.strip_prefix("mysql://").ok_or_else(|| wrong("an address must begin with mysql://"))?;
    let rest = rest.trim_end_matches('/');
    let (account, host) = rest.rsplit_once('@').unwrap_or(("root", rest));
    if host.is_empty() || host.contains(['/', '?']) {
        return Err(wrong("an address names a host and no database or options"));
    }
    // A colon within brackets belongs to an IPv6 address.
    let has_port = host.rsplit_once(':').is_some_and(|(before, port)| !port.contains(']') && !before.is_empty());
    let address = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
    if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(wrong("the port is no number"));
    }
    let (user, written) = account.split_once(':').map_or((account, None), |(user, word)| (user, Some(word)));
    let decode = |text: &str| decoded(text).ok_or_else(|| wrong("a % is not followed by two hexadecimal digits"));
    let password = written.map_or_else(|| Ok(password.to_owned()), decode)?;
    Ok(Login { address, user: decode(user)?, password, ca: None })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, address, user, password) in [
            ("mysql://root@h:1", "h:1", "root", "env"),
            ("mysql://a:p%40s@h", "h:9030", "a", "p@s"),
            ("mysql://h:7/", "h:7", "root", "env"),
            ("mysql://a:b@c@[::1]:9", "[::1]:9", "a", "b@c"),
            ("mysql://x@[::1]", "[::1]:9030", "x", "env"),
            ("mysql://x:@h", "h:9030", "x", ""),
        ] {
            let login = parse(text, "env").unwrap();
            assert_eq!(
                (login.address.as_str(), login.user.as_str(), login.password.as_str()),
                (address, user, password)
            );
        }
        for wrong in ["h:9030", "mysql://", "mysql://u@h:x", "mysql://u@h/db", "mysql://u%4@h", "mysql://u%zz@h"] {
            assert!(parse(wrong, "").is_err(), "{wrong}");
        }
    }
}
