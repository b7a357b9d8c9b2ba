//! The prepared statements of one connection: texts, parameter types, parameters that arrived piece by piece.
//!
//! Their number and the bytes they hold are bounded. Pieces of parameters have no answer on the wire; so when they
//! grow too large, the next execution says it.

use crate::binary::{Arguments, ParamType, text_or_bytes};
use crate::error::{MALFORMED_PACKET, PARAMETER_TOO_LARGE, ServerError, TOO_MANY_STATEMENTS, UNKNOWN_STATEMENT};
use crate::value::Value;
use std::collections::BTreeMap;
use std::mem::take;

#[derive(Debug)]
struct Statement {
    sql: String,
    params: u16,
    types: Vec<ParamType>,
    pieces: BTreeMap<u16, Vec<u8>>,
    overflown: bool,
}

impl Statement {
    fn pieces_size(&self) -> usize {
        self.pieces.values().map(Vec::len).sum()
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Statements {
    open: BTreeMap<u32, Statement>,
    last: u32,
    held: usize,
    max_count: usize,
    max_bytes: usize,
}

impl Statements {
    /// None yet; up to `max_count`, holding up to `max_bytes`.
    pub(crate) fn new(max_count: usize, max_bytes: usize) -> Statements {
        Statements { open: BTreeMap::new(), last: 0, held: 0, max_count, max_bytes }
    }

    /// Keep a statement; its number.
    pub(crate) fn insert(&mut self, sql: &str, params: u16) -> Result<u32, ServerError> {
        if self.open.len() >= self.max_count || self.held + sql.len() > self.max_bytes {
            return Err(TOO_MANY_STATEMENTS.error(format!(
                "Can't create more than max_prepared_stmt_count statements (current value: {}), \
                 or more than {} bytes of them: close some",
                self.max_count, self.max_bytes
            )));
        }
        self.last = self.last.wrapping_add(1).max(1);
        while self.open.contains_key(&self.last) {
            self.last = self.last.wrapping_add(1).max(1);
        }
        self.held += sql.len();
        let (types, pieces) = (Vec::new(), BTreeMap::new());
        self.open.insert(self.last, Statement { sql: sql.to_owned(), params, types, pieces, overflown: false });
        Ok(self.last)
    }

    /// Forget a statement, if it is there.
    pub(crate) fn close(&mut self, id: u32) {
        if let Some(statement) = self.open.remove(&id) {
            self.held -= statement.sql.len() + statement.pieces_size();
        }
    }

    /// Forget all.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.held = 0;
    }

    /// Drop the pieces of parameters.
    pub(crate) fn reset(&mut self, id: u32) -> Result<(), ServerError> {
        let statement = self.open.get_mut(&id).ok_or_else(|| unknown(id, "mysqld_stmt_reset"))?;
        self.held -= statement.pieces_size();
        statement.pieces.clear();
        statement.overflown = false;
        Ok(())
    }

    /// Add a piece to a parameter.
    pub(crate) fn append(&mut self, id: u32, parameter: u16, data: &[u8]) {
        let Some(statement) = self.open.get_mut(&id).filter(|statement| parameter < statement.params) else { return };
        if self.held + data.len() > self.max_bytes {
            statement.overflown = true;
        } else {
            self.held += data.len();
            statement.pieces.entry(parameter).or_default().extend_from_slice(data);
        }
    }

    /// The text and the values of an execution.
    pub(crate) fn execute(&mut self, id: u32, arguments: &[u8]) -> Result<(String, Vec<Value>), ServerError> {
        let statement = self.open.get_mut(&id).ok_or_else(|| unknown(id, "mysqld_stmt_execute"))?;
        self.held -= statement.pieces_size();
        let pieces = take(&mut statement.pieces);
        if take(&mut statement.overflown) {
            return Err(PARAMETER_TOO_LARGE.error(format!(
                "parameters sent in pieces are larger than max_allowed_packet ({} bytes)",
                self.max_bytes
            )));
        }
        let read = Arguments::parse(arguments, statement.params, &statement.types, |at| pieces.contains_key(&at));
        let Arguments { types, mut values } =
            read.map_err(|_| MALFORMED_PACKET.error("Malformed communication packet: arguments of EXECUTE"))?;
        statement.types = types;
        for (at, bytes) in pieces {
            if let Some(value) = values.get_mut(usize::from(at)) {
                *value = text_or_bytes(&bytes);
            }
        }
        Ok((statement.sql.clone(), values))
    }
}

fn unknown(id: u32, place: &str) -> ServerError {
    UNKNOWN_STATEMENT.error(format!("Unknown prepared statement handler ({id}) given to {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_the_value_once() {
        let mut statements = Statements::new(2, 100);
        let id = statements.insert("select ?, ?", 2).unwrap();
        statements.append(id, 1, b"he");
        statements.append(id, 1, b"llo");
        statements.append(id, 7, b"nowhere");
        let arguments = [0, 1, 0x01, 0, 0xfc, 0, 9];
        let (sql, values) = statements.execute(id, &arguments).unwrap();
        assert_eq!((sql.as_str(), values), ("select ?, ?", vec![Value::Int(9), Value::text("hello")]));
        assert_eq!(statements.held, sql.len());
        assert_eq!(statements.execute(id, &arguments).unwrap_err().code, 1835);
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut statements = Statements::new(2, 30);
        let first = statements.insert("select ?", 1).unwrap();
        let second = statements.insert("select 2", 0).unwrap();
        assert_eq!(statements.insert("select 3", 0).unwrap_err().code, 1461);
        statements.close(second);
        statements.close(second);
        assert_eq!(statements.insert(&"x".repeat(23), 0).unwrap_err().code, 1461);
        statements.append(first, 0, &[0; 23]);
        assert_eq!(statements.execute(first, &[]).unwrap_err().code, 1301);
        statements.append(first, 0, &[b'x'; 22]);
        statements.reset(first).unwrap();
        assert_eq!(statements.held, 8);
        statements.clear();
        assert_eq!(statements.held, 0);
    }

    #[test]
    fn unknown_numbers_are_errors_where_there_is_an_answer() {
        let mut statements = Statements::new(2, 30);
        assert_eq!(statements.execute(9, &[]).unwrap_err().code, 1243);
        assert_eq!(statements.reset(9).unwrap_err().code, 1243);
        statements.append(9, 0, b"x");
        statements.close(9);
    }
}
