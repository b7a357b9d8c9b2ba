//! Who may do what: the one table of statements and the privileges they need.
//!
//! A statement is checked by the frontend that took it, before it runs or is sent on to the leader, which looks once more.
//! Rights are looked up for every statement, so that GRANT, REVOKE and DROP USER act on sessions that are open. What a
//! statement reads by way of the query engine is checked where its tables are pinned (`query::pin`), and lists leave out what the user may not see.

use crate::account::{AccountName, Grantee, Privilege, Rights, Scope, Who};
use crate::error::{self, Error, Result, database_denied, privilege_needed, table_denied};
use crate::exec::context::Context;
use crate::exec::names::is_system_database;
use crate::exec::session::Session;
use crate::meta::state::State;
use crate::sql::ast::{AccountStatement, GrantOn, Granted, GrantsOf, ObjectName, Show, Statement};
use crate::sql::define_ast::{BinKind, Define, ShowMore};
use Privilege::{Admin, Alter, Create, Drop, Grant, Load, Node};
use std::collections::BTreeSet;

/// What a statement needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need<'a> {
    /// To be logged in. Statements that read tables or list things look at rights again where they do.
    Nothing,
    /// One of these on `*.*`; error 1227.
    Global(&'static [Privilege]),
    /// This on a database; error 1044.
    OnDatabase(Privilege, Option<&'a str>),
    /// This on a table; error 1142.
    OnTable(Privilege, &'a ObjectName),
    /// To see a database; error 1044.
    SeeDatabase(Option<&'a str>),
    /// To see a table; error 1142.
    SeeTable(&'a ObjectName),
    /// What [`account`] says.
    Account(&'a AccountStatement),
}

/// The table.
fn need(statement: &Statement) -> Need<'_> {
    match statement {
        Statement::Set(_)
        | Statement::Transaction
        | Statement::Help(_)
        // KILL: one's own connections, those of others with ADMIN; the list of connections knows whose they are.
        | Statement::Kill { .. }
        // SELECT on each table it names.
        | Statement::Query(_) => Need::Nothing,
        Statement::Use(name) => Need::SeeDatabase(Some(name)),
        Statement::CreateDatabase { name, .. } => Need::OnDatabase(Create, Some(name)),
        Statement::DropDatabase { name, .. } => Need::OnDatabase(Drop, Some(name)),
        Statement::CreateTable(table) => Need::OnTable(Create, &table.table),
        Statement::DropTable { table, .. } => Need::OnTable(Drop, table),
        Statement::TruncateTable { table, .. } => Need::OnTable(Load, table),
        Statement::AlterTableSet { table, .. } => Need::OnTable(Alter, table),
        Statement::Define(define) => need_of_definition(define),
        Statement::Delete(delete) => Need::OnTable(Load, &delete.table),
        // And SELECT on each table that the rows come from.
        Statement::Insert(insert) => Need::OnTable(Load, &insert.table),
        Statement::Describe(table) => Need::SeeTable(table),
        Statement::AlterSystem(_) => Need::Global(&[Node]),
        Statement::CreateRepository(_)
        | Statement::AlterRepository { .. }
        | Statement::DropRepository { .. }
        | Statement::Backup(_)
        | Statement::Restore(_)
        | Statement::CancelBackup(_)
        | Statement::CancelRestore(_)
        | Statement::DropSnapshot(_)
        | Statement::CleanTrash(_)
        | Statement::SetFrontendConfig(_)
        | Statement::NodeConfig(_) => Need::Global(&[Admin]),
        Statement::Account(statement) => Need::Account(statement),
        Statement::Show(show) => need_of_show(show),
    }
}

fn need_of_definition(define: &Define) -> Need<'_> {
    match define {
        Define::AlterTable { table, .. } => Need::OnTable(Alter, table),
        Define::RenameDatabase { name, .. } => Need::OnDatabase(Alter, Some(name)),
        // And SELECT on each table that it reads.
        Define::CreateView(create) => Need::OnTable(Create, &create.view),
        Define::DropView { view, .. } => Need::OnTable(Drop, view),
        Define::Recover(recover) => match (&recover.kind, &recover.table) {
            (BinKind::Partition, Some(table)) => Need::OnTable(Create, table),
            (BinKind::Table, _) => Need::OnDatabase(Create, recover.database.as_deref()),
            (BinKind::Database | BinKind::Partition, _) => Need::OnDatabase(Create, Some(&recover.name)),
        },
        Define::EraseBin { .. } => Need::Global(&[Admin]),
    }
}

fn need_of_more(more: &ShowMore) -> Need<'_> {
    match more {
        ShowMore::RecycleBin(_) | ShowMore::ReplicaStatus { .. } | ShowMore::ReplicaDistribution { .. } => {
            Need::Global(&[Admin])
        }
        ShowMore::Proc(_) => Need::Global(&[Admin, Node]),
        ShowMore::DynamicPartitions(database)
        | ShowMore::Views { database, .. }
        | ShowMore::Transactions { database, .. }
        | ShowMore::TableStatus { database, .. } => Need::SeeDatabase(database.as_deref()),
        ShowMore::CreateView(name) | ShowMore::ViewsOf(name) => Need::SeeTable(name),
        ShowMore::Data { table, .. } => match table {
            Some(table) => Need::SeeTable(table),
            None => Need::SeeDatabase(None),
        },
    }
}

fn need_of_show(show: &Show) -> Need<'_> {
    match show {
        // Lists of what one may see.
        Show::Databases { .. }
        | Show::ProcessList { .. }
        | Show::Grants(GrantsOf::Own)
        // About the session, or the same for everybody.
        | Show::Variables { .. }
        | Show::Status { .. }
        | Show::Warnings
        | Show::Errors
        | Show::Engines
        | Show::Collation
        | Show::CharacterSet
        | Show::Empty { .. } => Need::Nothing,
        Show::Tables { database, .. } => Need::SeeDatabase(database.as_deref()),
        Show::CreateDatabase(name) => Need::SeeDatabase(Some(name)),
        Show::More(more) => need_of_more(more),
        Show::CreateTable(table)
        | Show::Columns { table, .. }
        | Show::Partitions { table, .. }
        | Show::Tablets { table, .. } => Need::SeeTable(table),
        Show::Frontends | Show::Backends | Show::Brokers => Need::Global(&[Admin, Node]),
        Show::Repositories
        | Show::CreateRepository(_)
        | Show::Backup { .. }
        | Show::Restore { .. }
        | Show::Snapshot { .. }
        | Show::Tablet(_)
        | Show::FrontendConfig { .. } => Need::Global(&[Admin]),
        Show::Grants(GrantsOf::User(_) | GrantsOf::All) | Show::Roles => Need::Global(&[Grant]),
    }
}

/// Refuse a statement for which the user of the session lacks a privilege.
pub fn check(context: &Context, session: &Session, statement: &Statement) -> Result<()> {
    context.meta.view(|state| decide(state, &session.who(), session.database.as_deref(), statement))
}

/// Refuse a user without ADMIN.
pub fn need_admin(context: &Context, session: &Session) -> Result<()> {
    context.meta.view(|state| global(&state.rights(&session.who())?, &[Admin]))
}

/// Refuse a user that does not see a table: for commands of the protocol that are no statements.
pub fn need_to_see(state: &State, session: &Session, database: &str, table: &str) -> Result<()> {
    let who = session.who();
    if state.rights(&who)?.sees_table(database, table) { Ok(()) } else { Err(table_denied("SHOW", &who.name(), table)) }
}

/// [`check`] against a state.
fn decide(state: &State, who: &Who, current: Option<&str>, statement: &Statement) -> Result<()> {
    let rights = state.rights(who)?;
    match need(statement) {
        Need::Nothing => Ok(()),
        Need::Global(one_of) => global(&rights, one_of),
        Need::OnDatabase(privilege, given) => match given.or(current) {
            Some(name) if !rights.holds_on_database(privilege, name) => Err(database_denied(&who.name(), name)),
            _ => Ok(()),
        },
        Need::OnTable(privilege, table) => on_table(&rights, who, privilege, (table, current)),
        Need::SeeDatabase(given) => match given.or(current) {
            Some(name) if !is_system_database(name) && !rights.sees_database(name) => {
                Err(database_denied(&who.name(), name))
            }
            _ => Ok(()),
        },
        Need::SeeTable(table) => match table.database.as_deref().or(current) {
            Some(database) if !is_system_database(database) && !rights.sees_table(database, &table.name) => {
                Err(table_denied("SHOW", &who.name(), &table.name))
            }
            _ => Ok(()),
        },
        Need::Account(statement) => account(state, &rights, (who, current), statement),
    }
}

fn global(rights: &Rights<'_>, one_of: &[Privilege]) -> Result<()> {
    if one_of.iter().any(|privilege| rights.holds(*privilege)) {
        return Ok(());
    }
    let names: Vec<&str> = one_of.iter().map(|privilege| privilege.name()).collect();
    Err(privilege_needed(&names.join(", ")))
}

/// Without a database, the statement fails for that reason.
fn on_table(
    rights: &Rights<'_>,
    who: &Who,
    privilege: Privilege,
    (table, current): (&ObjectName, Option<&str>),
) -> Result<()> {
    match table.database.as_deref().or(current) {
        Some(database) if !rights.holds_on_table(privilege, database, &table.name) => {
            Err(table_denied(privilege.name(), &who.name(), &table.name))
        }
        _ => Ok(()),
    }
}

/// Users are made by those who hold GRANT, changed and dropped by those who hold ADMIN; nobody changes somebody who holds
/// NODE without holding it. Nobody grants what they do not hold. One's own password is one's own.
fn account(
    state: &State,
    rights: &Rights<'_>,
    (who, current): (&Who, Option<&str>),
    statement: &AccountStatement,
) -> Result<()> {
    match statement {
        AccountStatement::CreateUser { roles, .. } => {
            global(rights, &[Grant])?;
            if roles.is_empty() { Ok(()) } else { hand_on_roles(state, rights, roles) }
        }
        AccountStatement::CreateRole { .. } => global(rights, &[Grant]),
        AccountStatement::DropRole { role, .. } => {
            global(rights, &[Admin])?;
            hand_on_roles(state, rights, &[role.clone()].into())
        }
        AccountStatement::SetPassword { name: None, .. } => Ok(()),
        AccountStatement::SetPassword { name: Some(name), .. } | AccountStatement::AlterUser { name, .. } => {
            if state.account(who).is_some_and(|(key, _)| key == name.key()) {
                return Ok(());
            }
            change_of(state, rights, name)
        }
        AccountStatement::DropUser { name, .. } => change_of(state, rights, name),
        AccountStatement::Grant { what, to: to_or_from } | AccountStatement::Revoke { what, from: to_or_from } => {
            if let Grantee::User(name) = to_or_from
                && name.is_root()
            {
                global(rights, &[Node])?;
            }
            hand_on(state, rights, what, current)
        }
    }
}

/// Change or drop somebody else.
fn change_of(state: &State, rights: &Rights<'_>, name: &AccountName) -> Result<()> {
    global(rights, &[Admin])?;
    match state.rights_of(&Grantee::User(name.clone()), "ALTER USER") {
        Ok(theirs) if theirs.holds(Node) => global(rights, &[Node]),
        // One that is not there fails for that reason.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Grant or revoke.
fn hand_on(state: &State, rights: &Rights<'_>, what: &Granted, current: Option<&str>) -> Result<()> {
    match what {
        Granted::Roles(roles) => {
            global(rights, &[Admin])?;
            hand_on_roles(state, rights, roles)
        }
        Granted::Privileges(privileges, on) => {
            let scope = scope(on, current)?;
            let held = |privilege: &Privilege| *privilege == Privilege::Usage || rights.holds_on(*privilege, &scope);
            if !rights.holds_on(Grant, &scope) {
                return Err(privilege_needed("GRANT"));
            }
            match privileges.iter().find(|privilege| !held(privilege)) {
                Some(lacking) => Err(privilege_needed(lacking.name())),
                None => Ok(()),
            }
        }
    }
}

/// Whoever gives or takes a role with NODE must hold it; ADMIN covers the rest.
fn hand_on_roles(state: &State, rights: &Rights<'_>, roles: &BTreeSet<String>) -> Result<()> {
    for role in roles {
        let Some(held) = Rights::of_role(role, &state.roles) else { continue };
        if held.holds(Node) {
            global(rights, &[Node])?;
        }
        if !held.parts().iter().all(|grants| grants.is_empty()) {
            global(rights, &[Admin])?;
        }
    }
    Ok(())
}

/// Where a privilege is granted, with the session's database filled in.
pub(super) fn scope(on: &GrantOn, current: Option<&str>) -> Result<Scope> {
    let database = |given: Option<&String>| {
        given.map(String::as_str).or(current).map(str::to_owned).ok_or_else(error::no_database)
    };
    Ok(match on {
        GrantOn::Everything => Scope::Global,
        GrantOn::Database(given) => Scope::Database(database(given.as_ref())?),
        GrantOn::Table(table) => Scope::Table(database(table.database.as_ref())?, table.name.clone()),
        GrantOn::Resource(name) => Scope::Resource(name.clone()),
    })
}

/// Whether a session may end another's connection.
pub(super) fn may_kill(context: &Context, session: &Session) -> Result<bool> {
    context.meta.view(|state| Ok::<_, Error>(state.rights(&session.who())?.holds(Admin)))
}

#[cfg(test)]
#[path = "privilege_tests.rs"]
mod tests;
