//! One connection: greeting, then commands until either side has enough.
//!
//! The client asks, the server answers, strictly in turn. Between two commands the connection may be ended by the
//! server (idle too long, shutting down); a command that has begun is finished first. Of a failing socket nothing is
//! told to anybody: the session is dropped, and what its last statement decided stands. A statement that only reads is
//! given up as soon as its client is gone.

use crate::command::Command;
use crate::connect::{Opened, authenticate, connect};
use crate::error::{
    Code, EMPTY_QUERY, INACTIVE, INVALID_CHARACTERS, MALFORMED_PACKET, NO_CURSOR, NOT_SUPPORTED, OUT_OF_ORDER,
    PACKET_TOO_LARGE, SHUTDOWN, SYNTAX, ServerError, UNKNOWN_COMMAND,
};
use crate::handshake::{Response, capability};
use crate::options::{Peer, ServerOptions};
use crate::packet::{Wire, WireError};
use crate::reply::{Form, Format};
use crate::session::{Done, Service, Session};
use crate::split;
use crate::statements::Statements;
use crate::{column::Column, lenenc::Malformed};
use std::io;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Before a client is known, it may send this much in one packet.
const HANDSHAKE_LIMIT: usize = 64 * 1024;

/// Serve one connection to its end. When `stop` is ready, the connection ends after the command at hand.
///
/// Sockets should have TCP_NODELAY. The error is that of a socket; a client that leaves, however rudely, is none.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    options: &ServerOptions,
    service: &dyn Service,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut wire = Wire::new(stream, HANDSHAKE_LIMIT, options.write_timeout);
    let ended = converse(&mut wire, &peer, options, service, stop).await;
    let ended = match ended {
        Err(WireError::TooLarge(limit)) => {
            farewell(
                &mut wire,
                PACKET_TOO_LARGE,
                &format!("Got a packet bigger than 'max_allowed_packet' bytes ({limit})"),
            )
            .await
        }
        Err(WireError::OutOfOrder) => farewell(&mut wire, OUT_OF_ORDER, "Got packets out of order").await,
        other => other,
    };
    wire.close().await;
    match ended {
        Ok(()) => Ok(()),
        Err(WireError::Io(error)) if is_departure(&error) => Ok(()),
        Err(WireError::Io(error)) => Err(error),
        Err(error @ WireError::Stuck(_)) => Err(io::Error::new(io::ErrorKind::TimedOut, error.to_string())),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
    }
}

/// Whether the client just went.
fn is_departure(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The last words to a client.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    code: Code,
    message: &str,
) -> Result<(), WireError> {
    wire.put_error(&code.error(message));
    wire.flush().await
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    peer: &Peer,
    options: &ServerOptions,
    service: &dyn Service,
    stop: impl Future<Output = ()>,
) -> Result<(), WireError> {
    let opened = match timeout(options.handshake_timeout, connect(wire, peer, options, service)).await {
        Ok(opened) => opened?,
        Err(_) => return Ok(()),
    };
    let Some(Opened { session, capabilities }) = opened else { return Ok(()) };
    wire.set_limit(options.max_packet);
    let mut connection = Connection {
        wire,
        peer,
        options,
        service,
        session,
        statements: Statements::new(options.max_statements, options.max_packet),
        capabilities,
        multi: capabilities & capability::MULTI_STATEMENTS != 0,
        asked: 0,
    };
    let mut stop = pin!(stop);
    loop {
        connection.wire.begin();
        let packet = tokio::select! {
            biased;
            () = &mut stop => return farewell(connection.wire, SHUTDOWN, "Server shutdown in progress").await,
            packet = timeout(options.idle_timeout, connection.wire.read()) => match packet {
                Ok(packet) => packet?,
                Err(_) => {
                    let message = "The client was disconnected by the server because of inactivity.";
                    return farewell(connection.wire, INACTIVE, message).await;
                }
            },
        };
        let Some(packet) = packet else { return Ok(()) };
        let next = connection.answer(&packet).await?;
        connection.wire.flush().await?;
        if next == Next::Leave {
            return Ok(());
        }
    }
}

/// What follows a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Command,
    Leave,
}

struct Connection<'a, S> {
    wire: &'a mut Wire<S>,
    peer: &'a Peer,
    options: &'a ServerOptions,
    service: &'a dyn Service,
    session: Box<dyn Session>,
    statements: Statements,
    capabilities: u32,
    /// Whether several statements may come in one text.
    multi: bool,
    asked: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    fn form(&self, format: Format, more: bool) -> Form {
        Form { capabilities: self.capabilities, format, more }
    }

    /// Queue an OK or an ERR packet.
    fn put_result(&mut self, result: Result<(), ServerError>) {
        match result {
            Ok(()) => self.wire.put_ok(self.form(Format::Text, false), &Done::default()),
            Err(error) => self.wire.put_error(&error),
        }
    }

    async fn answer(&mut self, packet: &[u8]) -> Result<Next, WireError> {
        let command = match Command::parse(packet) {
            Ok(command) => command,
            Err(Malformed) => {
                self.put_result(Err(MALFORMED_PACKET.error("Malformed communication packet")));
                return Ok(Next::Command);
            }
        };
        self.asked += 1;
        match command {
            Command::Quit => return Ok(Next::Leave),
            Command::ChangeUser(rest) => return self.change_user(rest).await,
            Command::Query(sql) => self.query(sql).await?,
            Command::Prepare(sql) => self.prepare(sql).await,
            Command::Execute { statement, arguments } => self.execute(statement, arguments).await?,
            Command::SendLongData { statement, parameter, data } => self.statements.append(statement, parameter, data),
            Command::Close(statement) => self.statements.close(statement),
            Command::Reset(statement) => {
                let result = self.statements.reset(statement);
                self.put_result(result);
            }
            Command::FieldList { table, pattern } => self.field_list(table, pattern).await?,
            Command::SetOption(option) => self.set_option(option),
            Command::Statistics => self.statistics(),
            other => {
                let result = self.simple(other).await;
                self.put_result(result);
            }
        }
        Ok(Next::Command)
    }

    /// Commands whose answer is OK or an error.
    async fn simple(&mut self, command: Command<'_>) -> Result<(), ServerError> {
        match command {
            Command::Ping => Ok(()),
            Command::UseDatabase(name) => self.session.use_database(utf8(name)?).await,
            Command::ResetConnection => {
                self.statements.clear();
                self.multi = self.capabilities & capability::MULTI_STATEMENTS != 0;
                self.session.reset().await
            }
            Command::Kill => Err(NOT_SUPPORTED.error("COM_PROCESS_KILL is not supported, use the statement KILL")),
            Command::Fetch(statement) => {
                Err(NO_CURSOR.error(format!("The statement ({statement}) has no open cursor.")))
            }
            _ => Err(UNKNOWN_COMMAND.error("Unknown command")),
        }
    }

    async fn query(&mut self, sql: &[u8]) -> Result<(), WireError> {
        let parts = match utf8(sql).and_then(|sql| self.parts(sql)) {
            Ok(parts) => parts,
            Err(error) => {
                self.put_result(Err(error));
                return Ok(());
            }
        };
        let last = parts.len() - 1;
        for (at, part) in parts.into_iter().enumerate() {
            let abandon = self.session.may_abandon(part);
            let reply = self.wire.attend(abandon, self.session.query(part)).await?;
            let form = self.form(Format::Text, at < last);
            if !self.wire.put_reply(form, reply).await? {
                break;
            }
        }
        Ok(())
    }

    /// The statements of a text, at least one.
    fn parts<'t>(&self, sql: &'t str) -> Result<Vec<&'t str>, ServerError> {
        let parts = split::statements(sql);
        match parts[..] {
            [] => Err(EMPTY_QUERY.error("Query was empty")),
            [_, second, ..] if !self.multi => {
                let near: String = second.chars().take(80).collect();
                Err(SYNTAX.error(format!(
                    "You have an error in your SQL syntax near '{near}': \
                     several statements in one text need a client that says CLIENT_MULTI_STATEMENTS"
                )))
            }
            _ => Ok(parts),
        }
    }

    async fn prepare(&mut self, sql: &[u8]) {
        if let Err(error) = self.try_prepare(sql).await {
            self.put_result(Err(error));
        }
    }

    async fn try_prepare(&mut self, sql: &[u8]) -> Result<(), ServerError> {
        let parts = split::statements(utf8(sql)?);
        let sql = match parts[..] {
            [] => return Err(EMPTY_QUERY.error("Query was empty")),
            [sql] => sql,
            _ => return Err(SYNTAX.error("You have an error in your SQL syntax: only one statement can be prepared")),
        };
        let prepared = self.session.prepare(sql).await?;
        let columns = u16::try_from(prepared.columns.len())
            .map_err(|_| NOT_SUPPORTED.error("a result of more than 65535 columns is not supported"))?;
        let id = self.statements.insert(sql, prepared.params)?;
        self.wire.put(|out| {
            out.push(0);
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&columns.to_le_bytes());
            out.extend_from_slice(&prepared.params.to_le_bytes());
            out.extend_from_slice(&[0, 0, 0]);
        });
        let form = self.form(Format::Binary, false);
        let params = vec![Column::text("?"); usize::from(prepared.params)];
        self.wire.put_columns(form, &params);
        self.wire.put_columns(form, &prepared.columns);
        Ok(())
    }

    async fn execute(&mut self, statement: u32, arguments: &[u8]) -> Result<(), WireError> {
        let reply = match self.statements.execute(statement, arguments) {
            Ok((sql, values)) => {
                let abandon = self.session.may_abandon(&sql);
                self.wire.attend(abandon, self.session.execute(&sql, values)).await?
            }
            Err(error) => Err(error),
        };
        let form = self.form(Format::Binary, false);
        self.wire.put_reply(form, reply).await?;
        Ok(())
    }

    async fn field_list(&mut self, table: &[u8], pattern: &[u8]) -> Result<(), WireError> {
        let fields = match (utf8(table), utf8(pattern)) {
            (Ok(table), Ok(pattern)) => self.session.fields(table, pattern).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match fields {
            Ok(columns) => {
                for column in columns {
                    self.wire.put(|out| column.encode(out, true));
                    self.wire.relieve().await?;
                }
                let form = self.form(Format::Text, false);
                self.wire.put_end(form);
            }
            Err(error) => self.put_result(Err(error)),
        }
        Ok(())
    }

    fn set_option(&mut self, option: u16) {
        if option > 1 {
            return self.put_result(Err(UNKNOWN_COMMAND.error("Unknown command")));
        }
        self.multi = option == 0;
        let form = self.form(Format::Text, false);
        self.wire.put_end(form);
    }

    fn statistics(&mut self) {
        let text = format!("Uptime: {}  Questions: {}", self.options.started.elapsed().as_secs(), self.asked);
        self.wire.put(|out| out.extend_from_slice(text.as_bytes()));
    }

    async fn change_user(&mut self, rest: &[u8]) -> Result<Next, WireError> {
        let Ok(response) = Response::parse_change_user(rest, self.capabilities) else {
            self.put_result(Err(MALFORMED_PACKET.error("Malformed communication packet")));
            return Ok(Next::Leave);
        };
        if self.capabilities & capability::PLUGIN_AUTH == 0 {
            self.put_result(Err(NOT_SUPPORTED.error("changing the user needs a client that knows plugins: reconnect")));
            return Ok(Next::Leave);
        }
        let changing = authenticate(self.wire, self.peer, self.service, response, None);
        let Ok(changed) = timeout(self.options.handshake_timeout, changing).await else { return Ok(Next::Leave) };
        let Some(session) = changed? else { return Ok(Next::Leave) };
        self.session = session;
        self.statements.clear();
        Ok(Next::Command)
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, ServerError> {
    std::str::from_utf8(bytes).map_err(|_| INVALID_CHARACTERS.error("Invalid utf8mb4 character string"))
}
