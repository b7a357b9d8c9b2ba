//! Where a statement holds a secret. Whatever shows the text of a statement (the audit log, SHOW PROCESSLIST, errors) shows
//! it masked.
//!
//! This works on any text, also on one that does not parse: a typing error must not show a password. So it errs on the side
//! of masking: a quoted text behind anything that sounds like a password or a key is taken for one, and behind a quote that
//! is never closed nothing is trusted.

use coffer_stdx::secret::{MASK, is_secret_key};
use std::ops::Range;

/// The statement with every secret replaced by a mask; quotes stay.
pub fn masked(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut at = 0;
    for secret in secrets(sql) {
        out.push_str(&sql[at..secret.start]);
        out.push_str(MASK);
        at = secret.end;
    }
    out.push_str(&sql[at..]);
    out
}

/// At most about `limit` bytes of [`masked`], with dots where it was cut.
pub fn masked_head(sql: &str, limit: usize) -> String {
    let head = &sql[..sql.floor_char_boundary(limit)];
    let text = masked(head);
    if head.len() == sql.len() { text } else { text + "..." }
}

/// The places of secrets, in order, without their quotes.
pub fn secrets(sql: &str) -> Vec<Range<usize>> {
    if !may_hold_secrets(sql) {
        return Vec::new();
    }
    let (tokens, closed) = tokens(sql);
    let mut walk = Walk { sql, ..Walk::default() };
    for token in &tokens {
        walk.step(token);
    }
    let Walk { mut found, first_hint, .. } = walk;
    if let Some(hint) = first_hint.filter(|_| !closed) {
        found.retain(|secret| secret.end <= hint);
        found.push(hint..sql.len());
    }
    found
}

/// Whether a closer look is worth its time: most statements, long ones above all, name nothing of the kind.
fn may_hold_secrets(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    is_secret_key(&lower) || ["identified", "user", "://"].iter().any(|hint| lower.contains(hint))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Letters, digits, `_`, `$`.
    Word,
    /// In quotes of any kind; the range is what is inside.
    Text,
    Sign(u8),
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Text, words and signs, and whether the last quote was closed. Comments are left out; those to execute are not.
fn tokens(sql: &str) -> (Vec<Token>, bool) {
    let bytes = sql.as_bytes();
    let (mut found, mut at, mut closed) = (Vec::new(), 0, true);
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii();
        if matches!(byte, b'\'' | b'"' | b'`') {
            let (end, complete) = end_of_text(bytes, at);
            closed = complete;
            found.push(Token { kind: Kind::Text, start: start + 1, end });
            at = end + 1;
        } else if let Some(end) = end_of_comment(bytes, at) {
            at = end;
        } else if is_word(&byte) {
            let length = bytes[at..].iter().take_while(|byte| is_word(byte)).count();
            at += length;
            found.push(Token { kind: Kind::Word, start, end: at });
        } else {
            at += 1;
            if !byte.is_ascii_whitespace() {
                found.push(Token { kind: Kind::Sign(byte), start, end: at });
            }
        }
    }
    (found, closed)
}

/// Where the text that begins at `start` ends, before its quote, and whether there is one.
fn end_of_text(bytes: &[u8], start: usize) -> (usize, bool) {
    let quote = bytes[start];
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        let escaped = byte == b'\\' && quote != b'`';
        let doubled = byte == quote && bytes.get(at + 1) == Some(&quote);
        if escaped || doubled {
            at += 2;
        } else if byte == quote {
            return (at, true);
        } else {
            at += 1;
        }
    }
    (bytes.len(), false)
}

/// The end of a comment that begins here; `/*!` is only jumped over.
fn end_of_comment(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let line = || rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| at + end);
    match rest {
        [b'#', ..] => Some(line()),
        [b'-', b'-'] => Some(bytes.len()),
        [b'-', b'-', next, ..] if next.is_ascii_whitespace() => Some(line()),
        [b'/', b'*', b'!', ..] => Some(at + 3),
        [b'/', b'*', inside @ ..] => {
            let end = inside.windows(2).position(|pair| pair == b"*/");
            Some(end.map_or(bytes.len(), |end| at + 2 + end + 2))
        }
        _ => None,
    }
}

#[derive(Debug, Default)]
struct Walk<'a> {
    sql: &'a str,
    found: Vec<Range<usize>>,
    /// The first words.
    head: Vec<String>,
    /// Something like a password or key was named: the next text is its value.
    armed: bool,
    /// The sign or word before says that a value follows.
    before_value: bool,
    /// The sign or word before says that a name follows.
    before_name: bool,
    /// Up to here all is masked.
    covered: usize,
    /// Behind the first thing that sounds like a password.
    first_hint: Option<usize>,
}

impl Walk<'_> {
    fn step(&mut self, token: &Token) {
        if token.start < self.covered {
            return;
        }
        let text = &self.sql[token.start..token.end];
        match token.kind {
            Kind::Word => self.word(token, &text.to_ascii_uppercase()),
            Kind::Text => self.text(token, text),
            Kind::Sign(sign) => self.sign(token, sign),
        }
    }

    fn word(&mut self, token: &Token, word: &str) {
        if self.head.len() < 2 {
            self.head.push(word.to_owned());
            if self.about_user() {
                self.hint(token.end);
            }
        }
        let names_secret = is_secret_key(word) || word == "IDENTIFIED";
        let expected = self.armed || self.about_user();
        if expected && self.before_value && !names_secret && word != "BY" {
            return self.bare(token.start);
        }
        if names_secret {
            self.hint(token.end);
        }
        let ends = ["FOR", "TO", "ON", "FROM", "WHERE", "SELECT", "VALUES"].contains(&word);
        self.armed = names_secret || (self.armed && !ends);
        self.before_value = word == "BY" || (word == "PASSWORD" && self.before_value);
        self.before_name = ["USER", "EXISTS", "FOR", "TO", "ROLE"].contains(&word);
    }

    fn text(&mut self, token: &Token, text: &str) {
        let is_name =
            self.before_name || self.sql[token.end..].trim_start_matches(['\'', '"', '`', ' ']).starts_with('@');
        let names_secret = is_secret_key(text);
        if self.armed || (self.about_user() && !is_name) {
            self.push(token.start..token.end);
        } else if let Some(login) = login_of_url(text) {
            self.push(token.start + login.start..token.start + login.end);
        }
        if names_secret {
            self.hint(token.end);
        }
        self.armed = names_secret;
        (self.before_value, self.before_name) = (false, false);
    }

    fn sign(&mut self, token: &Token, sign: u8) {
        // A value that begins with a sign and has no quotes.
        if (self.armed || self.about_user()) && self.before_value && !matches!(sign, b'(' | b'=' | b',' | b')' | b';') {
            return self.bare(token.start);
        }
        self.before_name = sign == b'@';
        self.before_value = sign == b'=' || (sign == b'(' && self.before_value);
        if matches!(sign, b',' | b')' | b';') {
            self.armed = false;
        }
    }

    /// A value without quotes, to the next blank or comma.
    fn bare(&mut self, start: usize) {
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ')' | ';');
        let length = self.sql[start..].find(ends).unwrap_or(self.sql.len() - start);
        self.push(start..start + length);
        (self.armed, self.before_value, self.before_name) = (false, false, false);
    }

    fn push(&mut self, secret: Range<usize>) {
        self.covered = secret.end;
        self.found.push(secret);
    }

    fn hint(&mut self, at: usize) {
        self.first_hint.get_or_insert(at);
    }

    /// Whether every text that is no name is taken for a password.
    fn about_user(&self) -> bool {
        match &self.head[..] {
            [first, second] => {
                (["CREATE", "ALTER"].contains(&first.as_str()) && second == "USER")
                    || (first == "SET" && second == "PASSWORD")
            }
            _ => false,
        }
    }
}

/// `user:password` in `scheme://user:password@host`.
fn login_of_url(text: &str) -> Option<Range<usize>> {
    let start = text.find("://")? + 3;
    let authority = &text[start..start + text[start..].find('/').unwrap_or(text.len() - start)];
    let login = authority.rfind('@')?;
    authority[..login].contains(':').then_some(start..start + login)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        for (sql, expected) in [
            ("SELECT 'a', \"b\" FROM t", "SELECT 'a', \"b\" FROM t"),
            ("CREATE USER 'eve'@'10.%' IDENTIFIED BY 'pw'", "CREATE USER 'eve'@'10.%' IDENTIFIED BY '*XXX'"),
            (
                "create user if not exists eve@'%' identified by \"it's\" default role 'r'",
                "create user if not exists eve@'%' identified by \"*XXX\" default role 'r'",
            ),
            ("ALTER USER `eve` IDENTIFIED BY 'p''q\\'r' ", "ALTER USER `eve` IDENTIFIED BY '*XXX' "),
            (
                "CREATE USER e IDENTIFIED WITH mysql_native_password AS '*94BD'",
                "CREATE USER e IDENTIFIED WITH mysql_native_password AS '*XXX'",
            ),
            ("SET PASSWORD FOR 'eve'@'%' = PASSWORD('pw')", "SET PASSWORD FOR 'eve'@'%' = PASSWORD('*XXX')"),
            ("SET PASSWORD = 'pw'", "SET PASSWORD = '*XXX'"),
            ("set password = password ( \"pw\" )", "set password = password ( \"*XXX\" )"),
            (
                "CREATE REPOSITORY r WITH S3 ON LOCATION 's3://b/p' PROPERTIES ('s3.access_key' = 'AK', \
                 \"s3.secret_key\"=\"SK\", 's3.region' = 'eu')",
                "CREATE REPOSITORY r WITH S3 ON LOCATION 's3://b/p' PROPERTIES ('s3.access_key' = '*XXX', \
                 \"s3.secret_key\"=\"*XXX\", 's3.region' = 'eu')",
            ),
            ("x (password = hunter2/+3, a = b)", "x (password = *XXX, a = b)"),
            ("x ('s3.secret_key' = +a, a = b)", "x ('s3.secret_key' = *XXX, a = b)"),
            ("x ON LOCATION 'hdfs://u:p@host/a'", "x ON LOCATION 'hdfs://*XXX@host/a'"),
            ("x 'http://host/u:p@x'", "x 'http://host/u:p@x'"),
            ("/*! SET PASSWORD = 'pw' */", "/*! SET PASSWORD = '*XXX' */"),
            ("-- it's a password\nSELECT 'x'", "-- it's a password\nSELECT 'x'"),
            ("# it's\nSET PASSWORD = 'pw'", "# it's\nSET PASSWORD = '*XXX'"),
            ("/* it's */ SELECT 'x' --", "/* it's */ SELECT 'x' --"),
        ] {
            assert_eq!(masked(sql), expected, "{sql}");
        }
    }

    #[test]
    fn typing_errors_do_not_show_secrets() {
        for sql in [
            "CREATE USER eve IDENTIFIED 'hunter2'",
            "CREATE USER eve IDENTIFID BY 'hunter2'",
            "CREATE USER eve 'hunter2'",
            "CREATE USER it's IDENTIFIED BY 'hunter2'",
            "CREATE USER eve IDENTIFIED BY 'hunter2",
            "CREATE USER eve IDENTIFIED BY hunter2",
            "SET PASSWORD 'hunter2'",
            "SET PASSWORD FOR eve 'hunter2'",
            "SET PASSWORD FOR eve = hunter2",
            "x ('s3.secret_key' 'hunter2')",
            "x ('s3.access_key' 's3.secret_key' = 'hunter2')",
            "x ('s3.secret_key = 'hunter2')",
            "x (s3.secret_key = \"hunter2\")",
            "GRANT ALL ON *.* TO 'eve'@'%' IDENTIFIED BY 'hunter2'",
        ] {
            assert!(!masked(sql).contains("hunter2"), "{sql}: {}", masked(sql));
        }
    }

    #[test]
    fn long_statements_are_cut_and_stay_masked() {
        let sql = format!("CREATE USER eve IDENTIFIED BY '{}'", "hunter2".repeat(100));
        assert_eq!(masked_head(&sql, 40), "CREATE USER*XXX...");
        assert_eq!(masked_head("SELECT 1", 40), "SELECT 1");
        assert_eq!(masked_head("SELECT 'éé'", 10), "SELECT 'é...");
    }

    proptest! {
        #[test]
        fn no_text_panics(sql in r#"(SET PASSWORD|CREATE USER|secret_key|IDENTIFIED BY|[a-z;?'"`\\#*/!@=(), \n-]|://|é|\PC){0,40}"#) {
            let found = secrets(&sql);
            prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
            masked_head(&sql, 7);
        }

        #[test]
        fn a_quoted_password_never_shows(password in "[A-Z0-9]{6,20}", host in "[a-z%._]{1,6}") {
            for quote in ['\'', '"'] {
                let sql = format!("CREATE USER 'u'@'{host}' IDENTIFIED BY {quote}{password}{quote} DEFAULT ROLE 'r'");
                prop_assert!(!masked(&sql).contains(&password));
            }
        }
    }
}
