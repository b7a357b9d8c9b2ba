//! The MySQL wire protocol, server side; knows nothing of Coffer.
//!
//! A caller accepts sockets and gives each one to [`serve`], with a [`Service`] that knows accounts and opens a
//! [`Session`] per connection. From then on this crate speaks: greeting and authentication (`connect`), one command
//! after the other (`server`), rows in text or binary form (`reply`). A session sees single statements as text and
//! answers with a [`Reply`]; splitting of multi-statements ([`split`]) and placing of prepared parameters ([`params`])
//! happen here.
//!
//! Floors, each using only those above it:
//!
//! ```text
//! lenenc  error  value                 bytes, numbers, texts
//! lex -> split, params, hints          SQL as far as quotes and comments go
//! link -> packet, auth  column         streams, frames, digests, metadata
//! options                              limits and looks
//! handshake  command  binary  text     what is inside a frame
//! session  statements  reply           what a caller implements; prepared statements; answers
//! connect  server                      the conversation
//! ```
//!
//! Nothing here writes to disk. Everything a client can make grow is bounded: [`ServerOptions`] holds the limits. No
//! bytes a client sends make this crate panic. `LOAD DATA LOCAL INFILE` is never asked for, so a server built on this
//! cannot read files of its clients.

mod auth;
mod binary;
mod column;
mod command;
mod connect;
pub mod error;
mod handshake;
pub mod hints;
mod lenenc;
mod lex;
mod link;
mod options;
mod packet;
pub mod params;
mod reply;
mod server;
mod session;
pub mod split;
mod statements;
mod text;
mod value;

pub use auth::{Credentials, Plugin, native_digest, sha2_digest};
pub use column::{Column, ColumnType};
pub use error::ServerError;
pub use options::{Peer, ServerOptions};
pub use server::serve;
pub use session::{Batches, Client, Done, Prepared, Reply, Rows, Service, Session};
pub use value::{Row, Value, quote, quote_identifier};
