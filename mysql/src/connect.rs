//! From greeting to an open session.
//!
//! The server greets with a nonce and a plugin; the client answers for a user, after asking for TLS where both can. If the client used another plugin than
//! the greeting's, or the account cannot use that one, the client is asked once more, by way of a plugin that both
//! have and with a fresh nonce. A user that does not exist is refused after the very same exchange, so that names
//! cannot be probed.

use crate::auth::{Credentials, Nonce, Plugin};
use crate::error::{ACCESS_DENIED, BAD_HANDSHAKE, ServerError, TLS_REQUIRED};
use crate::handshake::{Greeting, Response, asks_for_tls, capability, encode_auth_switch};
use crate::options::{Peer, ServerOptions};
use crate::packet::{Wire, WireError};
use crate::reply::{Form, Format};
use crate::session::{Client, Done, Service, Session};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// caching_sha2_password: the answer was right, no need for the password itself.
const FAST_AUTH_SUCCESS: [u8; 2] = [1, 3];

/// A session and what its client can.
pub(crate) struct Opened {
    pub(crate) session: Box<dyn Session>,
    pub(crate) capabilities: u32,
}

/// Greet and let the client in. `None` when it was refused, or left.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    peer: &Peer,
    options: &ServerOptions,
    service: &dyn Service,
) -> Result<Option<Opened>, WireError> {
    let (nonce, plugin) = (Nonce::random(), options.plugin);
    wire.put(|out| {
        let tls = options.tls.is_some();
        Greeting { version: &options.version, connection: peer.connection, nonce: &nonce, plugin, tls }.encode(out);
    });
    wire.flush().await?;
    let Some(mut packet) = wire.read().await? else { return Ok(None) };
    match options.tls.as_ref().filter(|_| asks_for_tls(&packet)) {
        Some(tls) => {
            wire.secure(Arc::clone(tls)).await?;
            let Some(next) = wire.read().await? else { return Ok(None) };
            packet = next;
        }
        None if options.tls_required => {
            let text = "Connections using insecure transport are prohibited: the server asks for TLS";
            return refuse(wire, &TLS_REQUIRED.error(text)).await;
        }
        None => {}
    }
    let Ok(response) = Response::parse(&packet) else {
        return refuse(wire, &BAD_HANDSHAKE.error("Bad handshake")).await;
    };
    let capabilities = response.capabilities;
    let session = authenticate(wire, peer, service, response, Some((nonce, plugin))).await?;
    Ok(session.map(|session| Opened { session, capabilities }))
}

/// Check who the client says it is and open a session. `greeted` is what the client's answer may rest on.
pub(crate) async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    peer: &Peer,
    service: &dyn Service,
    response: Response,
    greeted: Option<(Nonce, Plugin)>,
) -> Result<Option<Box<dyn Session>>, WireError> {
    let known = match service.credentials(&response.user, &peer.host).await {
        Ok(known) => known,
        Err(error) => return refuse(wire, &error).await,
    };
    let credentials = known.unwrap_or_else(Credentials::decoy);
    let Some((plugin, nonce, answer)) = exchange(wire, &response, &credentials, greeted).await? else {
        return Ok(None);
    };
    if known.is_none() || !credentials.accept(plugin, &nonce, &answer) {
        let using = if matches!(answer[..], [] | [0]) { "NO" } else { "YES" };
        let (user, host) = (&response.user, &peer.host);
        tracing::info!(connection = peer.connection, user, host, "access denied");
        service.refused(user, host).await;
        let message = format!("Access denied for user '{user}'@'{host}' (using password: {using})");
        return refuse(wire, &ACCESS_DENIED.error(message)).await;
    }
    if plugin == Plugin::CachingSha2 && !credentials.is_empty() {
        wire.put(|out| out.extend_from_slice(&FAST_AUTH_SUCCESS));
    }
    match open(peer, service, &response).await {
        Ok(session) => {
            let form = Form { capabilities: response.capabilities, format: Format::Text, more: false };
            wire.put_ok(form, &Done::default());
            wire.flush().await?;
            Ok(Some(session))
        }
        Err(error) => refuse(wire, &error).await,
    }
}

/// The answer to judge, and the plugin and nonce to judge it by.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    response: &Response,
    credentials: &Credentials,
    greeted: Option<(Nonce, Plugin)>,
) -> Result<Option<(Plugin, Nonce, Vec<u8>)>, WireError> {
    let can_switch = response.capabilities & capability::PLUGIN_AUTH != 0;
    let used = match &response.plugin {
        Some(name) => Plugin::from_name(name),
        None => Some(Plugin::Native),
    };
    let plugin = credentials.plugin(used);
    match greeted {
        Some((nonce, greeted)) if !can_switch || (greeted == plugin && used == Some(plugin)) => {
            Ok(Some((plugin, nonce, response.answer.clone())))
        }
        _ => {
            let nonce = Nonce::random();
            wire.put(|out| encode_auth_switch(out, plugin, &nonce));
            wire.flush().await?;
            Ok(wire.read().await?.map(|answer| (plugin, nonce, answer.to_vec())))
        }
    }
}

async fn open(peer: &Peer, service: &dyn Service, response: &Response) -> Result<Box<dyn Session>, ServerError> {
    let client = Client {
        connection: peer.connection,
        user: response.user.clone(),
        host: peer.host.clone(),
        attributes: response.attributes.clone(),
    };
    let mut session = service.open(client).await?;
    if let Some(database) = &response.database {
        session.use_database(database).await?;
    }
    Ok(session)
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin, T>(
    wire: &mut Wire<S>,
    error: &ServerError,
) -> Result<Option<T>, WireError> {
    wire.put_error(error);
    wire.flush().await?;
    Ok(None)
}
