//! Users, roles, GRANT and REVOKE, SHOW GRANTS.

use super::ast::{AccountStatement, GrantOn, Granted, GrantsOf, ObjectName, Show, Statement};
use super::cursor::Cursor;
use crate::account::{ANY_HOST, AccountName, Grantee, NewPassword, Privilege, check_name};
use crate::error::{Error, Result};
use coffer_stdx::secret::Secret;
use sqlparser::tokenizer::Token;
use std::collections::BTreeSet;

/// The only catalog there is.
const CATALOG: &str = "internal";

/// CREATE, ALTER and DROP of users and roles.
pub(super) fn definition(cursor: &mut Cursor<'_>) -> Result<Option<Statement>> {
    let statement = if cursor.eat_all(&["CREATE", "USER"]) {
        create_user(cursor)?
    } else if cursor.eat_all(&["ALTER", "USER"]) {
        alter_user(cursor)?
    } else if cursor.eat_all(&["DROP", "USER"]) {
        let if_exists = cursor.if_exists();
        AccountStatement::DropUser { name: account_name(cursor)?, if_exists }
    } else if cursor.eat_all(&["CREATE", "ROLE"]) {
        let if_not_exists = cursor.if_not_exists();
        let role = cursor.name("a role")?;
        check_name("role", &role)?;
        AccountStatement::CreateRole { role, if_not_exists }
    } else if cursor.eat_all(&["DROP", "ROLE"]) {
        let if_exists = cursor.if_exists();
        AccountStatement::DropRole { role: cursor.name("a role")?, if_exists }
    } else {
        return Ok(None);
    };
    Ok(Some(Statement::Account(statement)))
}

fn create_user(cursor: &mut Cursor<'_>) -> Result<AccountStatement> {
    let if_not_exists = cursor.if_not_exists();
    let name = account_name(cursor)?;
    let password = identified_by(cursor)?;
    let roles = if cursor.eat_all(&["DEFAULT", "ROLE"]) { roles(cursor)? } else { BTreeSet::new() };
    refuse_policies(cursor)?;
    Ok(AccountStatement::CreateUser { name, if_not_exists, password, roles })
}

fn alter_user(cursor: &mut Cursor<'_>) -> Result<AccountStatement> {
    let if_exists = cursor.if_exists();
    let name = account_name(cursor)?;
    refuse_policies(cursor)?;
    let password = identified_by(cursor)?.ok_or_else(|| cursor.expected("IDENTIFIED BY"))?;
    refuse_policies(cursor)?;
    Ok(AccountStatement::AlterUser { name, if_exists, password })
}

/// What MySQL also knows about accounts.
fn refuse_policies(cursor: &Cursor<'_>) -> Result<()> {
    let policies = [
        "PASSWORD_HISTORY",
        "PASSWORD_EXPIRE",
        "FAILED_LOGIN_ATTEMPTS",
        "ACCOUNT_LOCK",
        "ACCOUNT_UNLOCK",
        "COMMENT",
        "PASSWORD",
        "ACCOUNT",
        "REQUIRE",
        "DEFAULT",
        "WITH",
    ];
    match policies.iter().find(|word| cursor.is(word)) {
        Some(word) => Err(Error::not_supported(format!("{word} of a user is not supported"))),
        None => Ok(()),
    }
}

/// `[IDENTIFIED [WITH plugin] {BY 'p' | BY PASSWORD '*hash' | AS '*hash'}]`.
fn identified_by(cursor: &mut Cursor<'_>) -> Result<Option<NewPassword>> {
    if !cursor.eat("IDENTIFIED") {
        return Ok(None);
    }
    if cursor.eat("WITH") {
        let plugin = cursor.name("a plugin")?;
        if !["mysql_native_password", "caching_sha2_password"].contains(&plugin.to_ascii_lowercase().as_str()) {
            return Err(Error::not_supported(format!("authentication by {plugin} is not supported")));
        }
        if cursor.eat("AS") {
            return digest(cursor).map(Some);
        }
    }
    cursor.need("BY")?;
    if cursor.eat("PASSWORD") {
        return digest(cursor).map(Some);
    }
    cursor.string("a quoted password").map(|text| Some(NewPassword::Clear(Secret::new(text))))
}

fn digest(cursor: &mut Cursor<'_>) -> Result<NewPassword> {
    let text = cursor.string("a quoted digest of a password")?;
    NewPassword::from_digest(&text).ok_or_else(|| {
        Error::invalid("Password hash should be * and 40 hexadecimal digits, as mysql_native_password has")
    })
}

/// Behind SET PASSWORD: `[FOR 'u'[@'h']] = {PASSWORD('p') | 'p' | '*hash'}`.
pub(super) fn set_password(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let name = if cursor.eat("FOR") { optional_current_user(cursor)? } else { None };
    cursor.need_token(&Token::Eq)?;
    let password = if cursor.eat("PASSWORD") {
        let mut given = cursor.parenthesised(|cursor| cursor.string("a quoted password"))?;
        let (Some(text), true) = (given.pop(), given.is_empty()) else {
            return Err(cursor.expected("one password"));
        };
        NewPassword::Clear(Secret::new(text))
    } else {
        let text = cursor.string("PASSWORD('...')")?;
        NewPassword::from_digest(&text).unwrap_or_else(|| NewPassword::Clear(Secret::new(text)))
    };
    Ok(Statement::Account(AccountStatement::SetPassword { name, password }))
}

/// `None` for CURRENT_USER[()].
fn optional_current_user(cursor: &mut Cursor<'_>) -> Result<Option<AccountName>> {
    if cursor.eat("CURRENT_USER") {
        if cursor.eat_token(&Token::LParen) {
            cursor.need_token(&Token::RParen)?;
        }
        return Ok(None);
    }
    account_name(cursor).map(Some)
}

/// `'user'[@'host']`, quoted or not.
fn account_name(cursor: &mut Cursor<'_>) -> Result<AccountName> {
    let text = cursor.name("a user")?;
    // Without quotes the tokenizer takes `eve@host` and `eve@` for words.
    if let Some((user, host)) = text.split_once('@') {
        let host = if host.is_empty() { cursor.name("a host")? } else { host.to_owned() };
        return AccountName::new(user, &rest_of_host(cursor, host));
    }
    if !cursor.eat_token(&Token::AtSign) {
        if let Some(host) = cursor.peek_word().and_then(|word| word.strip_prefix('@')).map(str::to_owned) {
            if host.starts_with('(') {
                return Err(domain());
            }
            cursor.skip();
            return AccountName::new(&text, &rest_of_host(cursor, host));
        }
        return AccountName::new(&text, ANY_HOST);
    }
    if *cursor.peek() == Token::LParen {
        return Err(domain());
    }
    let host = cursor.name("a host")?;
    AccountName::new(&text, &host)
}

fn domain() -> Error {
    Error::not_supported("users of a domain ('user'@('domain')) are not supported: use host patterns")
}

/// The tokenizer splits hosts that are not quoted at their dots.
fn rest_of_host(cursor: &mut Cursor<'_>, mut host: String) -> String {
    while *cursor.peek() == Token::Period {
        let Some(part) = cursor.nth_word(1).map(str::to_owned) else { break };
        cursor.skip();
        cursor.skip();
        host = format!("{host}.{part}");
    }
    host
}

fn roles(cursor: &mut Cursor<'_>) -> Result<BTreeSet<String>> {
    cursor.list(|cursor| cursor.name("a role")).map(|roles| roles.into_iter().collect())
}

/// `GRANT privileges ON ... TO {user | ROLE role}`, `GRANT roles TO user`.
pub(super) fn grant(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("GRANT")?;
    let what = granted(cursor, "TO")?;
    let to = grantee(cursor, &what)?;
    if cursor.is("WITH") {
        return Err(Error::not_supported("WITH GRANT OPTION is not supported: grant the privilege GRANT_PRIV"));
    }
    Ok(Statement::Account(AccountStatement::Grant { what, to }))
}

/// `REVOKE privileges ON ... FROM {user | ROLE role}`, `REVOKE roles FROM user`.
pub(super) fn revoke(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("REVOKE")?;
    let what = granted(cursor, "FROM")?;
    let from = grantee(cursor, &what)?;
    Ok(Statement::Account(AccountStatement::Revoke { what, from }))
}

/// What is granted, up to and with the word that names who gets it.
fn granted(cursor: &mut Cursor<'_>, direction: &str) -> Result<Granted> {
    let words = cursor.list(privilege_or_role)?;
    if cursor.eat("ON") {
        let on = grant_on(cursor)?;
        cursor.need(direction)?;
        return privileges(&words, on);
    }
    cursor.need_one_of(&[direction]).map_err(|_| cursor.expected(&format!("ON or {direction}")))?;
    let is_privilege =
        |word: &Word| Privilege::from_word(&word.text).is_some() || word.text.eq_ignore_ascii_case("ALL");
    if words.iter().all(|word| !word.quoted && is_privilege(word)) {
        let text = "ON is missing: say on what the privileges are, for instance ON *.*; or quote the names of roles";
        return Err(Error::invalid(text));
    }
    Ok(Granted::Roles(words.into_iter().map(|word| word.text).collect()))
}

/// A privilege, or the name of a role.
struct Word {
    text: String,
    quoted: bool,
}

/// A word or a quoted name; `ALL PRIVILEGES` is `ALL`, `GRANT OPTION` is `GRANT`.
fn privilege_or_role(cursor: &mut Cursor<'_>) -> Result<Word> {
    let word = |text: &str| Word { text: text.to_owned(), quoted: false };
    if cursor.eat("ALL") {
        cursor.eat("PRIVILEGES");
        return Ok(word("ALL"));
    }
    // Some privileges are reserved words elsewhere.
    if let Some(found) = cursor.peek_word().filter(|found| Privilege::from_word(found).is_some()).map(word) {
        cursor.skip();
        if found.text.eq_ignore_ascii_case("GRANT") {
            cursor.eat("OPTION");
        }
        return Ok(found);
    }
    let quoted = cursor.peek_word().is_none();
    Ok(Word { text: cursor.name("a privilege or a role")?, quoted })
}

fn privileges(words: &[Word], on: GrantOn) -> Result<Granted> {
    let mut found = BTreeSet::new();
    for Word { text: word, .. } in words {
        if word.eq_ignore_ascii_case("ALL") {
            found.extend(Privilege::OF_ALL);
            continue;
        }
        let Some(privilege) = Privilege::from_word(word) else {
            let known: Vec<String> = Privilege::ALL.iter().map(|privilege| privilege.shown().to_uppercase()).collect();
            return Err(Error::invalid(format!("Unknown privilege {word}; known are {}", known.join(", "))));
        };
        if privilege.is_global_only() && on != GrantOn::Everything {
            let text = format!("{} can only be granted or revoked ON *.*", privilege.name());
            return Err(Error::invalid(text));
        }
        let on_resource = matches!(on, GrantOn::Resource(_));
        if on_resource && !matches!(privilege, Privilege::Usage | Privilege::Grant) {
            let text = format!("{} makes no sense on a resource: USAGE_PRIV and GRANT_PRIV do", privilege.name());
            return Err(Error::invalid(text));
        }
        found.insert(privilege);
    }
    Ok(Granted::Privileges(found, on))
}

/// `*.*`, `db[.*]`, `db.table`, `*`, each with the one catalog in front or not; `RESOURCE 'name'`.
fn grant_on(cursor: &mut Cursor<'_>) -> Result<GrantOn> {
    if cursor.eat("RESOURCE") {
        return cursor.name("a resource").map(GrantOn::Resource);
    }
    cursor.eat("TABLE");
    let mut parts = vec![part(cursor)?];
    while cursor.eat_token(&Token::Period) {
        parts.push(part(cursor)?);
    }
    if parts.len() == 3 {
        match parts.remove(0) {
            None => {}
            Some(catalog) if catalog.eq_ignore_ascii_case(CATALOG) => {}
            Some(catalog) => {
                return Err(Error::not_supported(format!("catalog '{catalog}' is not supported: there is only one")));
            }
        }
    }
    match &parts[..] {
        [None, None] => Ok(GrantOn::Everything),
        [None] => Ok(GrantOn::Database(None)),
        // One name is a database in these systems, unlike in MySQL.
        [Some(database)] | [Some(database), None] => Ok(GrantOn::Database(Some(database.clone()))),
        [Some(database), Some(table)] => {
            Ok(GrantOn::Table(ObjectName { database: Some(database.clone()), name: table.clone() }))
        }
        _ => Err(cursor.expected("*.*, db.* or db.table")),
    }
}

/// A name, or `None` for `*`.
fn part(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.eat_token(&Token::Mul) { Ok(None) } else { cursor.name("a name or *").map(Some) }
}

fn grantee(cursor: &mut Cursor<'_>, what: &Granted) -> Result<Grantee> {
    if cursor.eat("ROLE") {
        if matches!(what, Granted::Roles(_)) {
            return Err(Error::not_supported("a role for a role is not supported: grant it to users"));
        }
        return cursor.name("a role").map(Grantee::Role);
    }
    cursor.eat("USER");
    account_name(cursor).map(Grantee::User)
}

/// SHOW GRANTS [FOR user], SHOW ALL GRANTS, SHOW ROLES.
pub(super) fn show(cursor: &mut Cursor<'_>) -> Result<Option<Show>> {
    Ok(Some(if cursor.eat_all(&["ALL", "GRANTS"]) {
        Show::Grants(GrantsOf::All)
    } else if cursor.eat("GRANTS") {
        if cursor.eat("FOR") {
            Show::Grants(optional_current_user(cursor)?.map_or(GrantsOf::Own, GrantsOf::User))
        } else {
            Show::Grants(GrantsOf::Own)
        }
    } else if cursor.eat("ROLES") {
        Show::Roles
    } else {
        return Ok(None);
    }))
}
