//! ALTER SYSTEM: who belongs to the cluster.

use super::ast::{AlterSystem, Statement};
use super::cursor::Cursor;
use super::{known, names};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Behind ALTER SYSTEM.
pub(super) fn alter_system(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let change = if cursor.eat_all(&["ADD", "BACKEND"]) {
        let added = addresses(cursor)?;
        if !cursor.optional_properties()?.is_empty() {
            return Err(Error::not_supported("properties of a backend are not supported"));
        }
        AlterSystem::AddBackend(added)
    } else if cursor.eat_all(&["DROP", "BACKEND"]) {
        AlterSystem::DropBackend(backends(cursor)?)
    } else if cursor.eat_all(&["DROPP", "BACKEND"]) {
        AlterSystem::ForceDropBackend(backends(cursor)?)
    } else if cursor.eat_all(&["DECOMMISSION", "BACKEND"]) {
        AlterSystem::DecommissionBackend(backends(cursor)?)
    } else if cursor.eat_all(&["ADD", "BROKER"]) {
        let name = cursor.name("a broker name")?;
        names::check_common("broker", &name)?;
        AlterSystem::AddBroker { name, addresses: addresses(cursor)? }
    } else if cursor.eat_all(&["DROP", "BROKER"]) {
        AlterSystem::DropBroker { name: cursor.name("a broker name")?, addresses: addresses(cursor)? }
    } else if cursor.eat_all(&["DROP", "ALL", "BROKER"]) {
        AlterSystem::DropAllBroker(cursor.name("a broker name")?)
    } else if cursor.eat_all(&["MODIFY", "BROKER"]) {
        modify_broker(cursor)?
    } else if cursor.eat_all(&["ADD", "FOLLOWER"]) {
        AlterSystem::AddFollower(addresses(cursor)?)
    } else if cursor.eat_all(&["ADD", "OBSERVER"]) {
        AlterSystem::AddObserver(addresses(cursor)?)
    } else if cursor.eat_all(&["DROP", "FOLLOWER"]) {
        AlterSystem::DropFollower(addresses(cursor)?)
    } else if cursor.eat_all(&["DROP", "OBSERVER"]) {
        AlterSystem::DropObserver(addresses(cursor)?)
    } else {
        return Err(known::refuse_after("ALTER SYSTEM", cursor));
    };
    Ok(Statement::AlterSystem(change))
}

/// Behind CANCEL DECOMMISSION BACKEND.
pub(super) fn cancel_decommission(cursor: &mut Cursor<'_>) -> Result<Statement> {
    Ok(Statement::AlterSystem(AlterSystem::CancelDecommission(backends(cursor)?)))
}

/// `name ["host:port" [, ...]] SET (...)`.
fn modify_broker(cursor: &mut Cursor<'_>) -> Result<AlterSystem> {
    let name = cursor.name("a broker name")?;
    let addresses = if cursor.is("SET") { Vec::new() } else { addresses(cursor)? };
    cursor.need("SET")?;
    let properties = cursor.properties()?;
    if properties.is_empty() {
        return Err(Error::invalid("MODIFY BROKER: no property to change is given"));
    }
    Ok(AlterSystem::ModifyBroker { name, addresses, properties })
}

fn addresses(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    let addresses = cursor.list(|cursor| {
        let address = cursor.string("a quoted \"host:port\"")?;
        check_address(&address)?;
        Ok(address)
    })?;
    no_twins(addresses)
}

/// Addresses or ids.
fn backends(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    let backends = cursor.list(|cursor| {
        let backend = cursor.string("a quoted \"host:port\" or backend id")?;
        if !backend.parse::<u64>().is_ok_and(|id| id > 0) {
            check_address(&backend)?;
        }
        Ok(backend)
    })?;
    no_twins(backends)
}

fn no_twins(addresses: Vec<String>) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    match addresses.iter().find(|address| !seen.insert(*address)) {
        Some(twin) => Err(Error::invalid(format!("Duplicated address: {twin}"))),
        None => Ok(addresses),
    }
}

/// `host:port`; an IPv6 address stands in brackets.
fn check_address(address: &str) -> Result<()> {
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = match host.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
            None => {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        bare && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!("Invalid host port: {address}, expected \"host:port\" with a port from 1 to 65535")))
}
