//! A bad network: connections that break in the middle of a write or a read, and bytes that change on the way.
//!
//! What a store can make good itself it may; what it cannot must be an error, and never a wrong or partial object.

use super::place::{ANY, LARGE, Place, broken, ensure, pattern, same, uneven};
use super::wire::{Harm, Way, Wire};
use bytes::Bytes;
use coffer_stdx::{ErrorKind, Result};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use std::sync::Arc;

/// In the middle of a large object, and of its second part where it has parts.
const MIDDLE: [u64; 2] = [3 << 20, (8 << 20) + 100_000];

type Case = fn(Place, Arc<Wire>) -> BoxFuture<'static, Result<()>>;

pub(super) const CASES: [(&str, Case); 5] = [
    ("cut_write", |place, wire| Box::pin(hurt_write(place, wire, Harm::Cut))),
    ("garbled_write", |place, wire| Box::pin(hurt_write(place, wire, Harm::Garble))),
    ("dead_write", |place, wire| Box::pin(hurt_write(place, wire, Harm::Down))),
    ("cut_read", |place, wire| Box::pin(cut_read(place, wire))),
    ("dead_read", |place, wire| Box::pin(dead_read(place, wire))),
];

async fn hurt_write(place: Place, wire: Arc<Wire>, harm: Harm) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    for (name, after) in [("old", MIDDLE[0]), ("new", MIDDLE[1]), ("old", MIDDLE[1]), ("new", MIDDLE[0])] {
        // To find out that nobody answers takes a while; two times are enough.
        if harm == Harm::Down && after == MIDDLE[1] && name == "old" {
            break;
        }
        place.put("old", "old").await?;
        wire.arm(Way::Up, after, harm);
        let outcome = place.store.put(&place.path(name), uneven(bytes.clone()), ANY).await;
        ensure(wire.has_harmed(), || "the put took another way than the wire".to_owned())?;
        wire.heal();
        match outcome {
            Ok(_) if harm == Harm::Down => return Err(broken("a put over a dead wire succeeded".to_owned())),
            Ok(_) => same(&place.get(name).await?, &bytes, "an object put over a bad wire")?,
            Err(error) if !error.kind().is_transient() && error.kind() != ErrorKind::Corrupt => {
                return Err(broken(format!("a bad wire is no reason for {}: {error}", error.kind())));
            }
            Err(_) => {
                place.expect_names_soon(&["old"]).await?;
                same(&place.get("old").await?, b"old", "the object there before")?;
            }
        }
        place.store.delete(&place.path("new"), false).await?;
    }
    Ok(())
}

async fn cut_read(place: Place, wire: Arc<Wire>) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    place.put("a", bytes.clone()).await?;
    for after in MIDDLE {
        wire.arm(Way::Down, after, Harm::Cut);
        same(&place.get("a").await?, &bytes, "an object read over a wire that broke")?;
        ensure(wire.has_harmed(), || "the get took another way than the wire".to_owned())?;
    }
    Ok(())
}

async fn dead_read(place: Place, wire: Arc<Wire>) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    place.put("a", bytes.clone()).await?;
    wire.arm(Way::Down, MIDDLE[0], Harm::Down);
    let mut read = Vec::new();
    let outcome = async {
        let mut body = place.store.get(&place.path("a"), None).await?;
        while let Some(chunk) = body.try_next().await? {
            read.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let outcome: Result<()> = outcome.await;
    ensure(wire.has_harmed(), || "the get took another way than the wire".to_owned())?;
    match outcome {
        Ok(()) => Err(broken("a get over a dead wire ended well".to_owned())),
        Err(error) if !error.kind().is_transient() => {
            Err(broken(format!("a dead wire is no reason for {}: {error}", error.kind())))
        }
        Err(_) => same(&read, &bytes[..read.len().min(bytes.len())], "what came before the wire died"),
    }
}

/// Where the store checks what it reads, a changed byte is an error or made good, never an answer.
pub(super) async fn garbled_read(place: Place, wire: Arc<Wire>) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    place.put("a", bytes.clone()).await?;
    for after in MIDDLE {
        wire.arm(Way::Down, after, Harm::Garble);
        let outcome = place.get("a").await;
        ensure(wire.has_harmed(), || "the get took another way than the wire".to_owned())?;
        match outcome {
            Ok(read) => same(&read, &bytes, "an object read over a wire that changed a byte")?,
            Err(error) if error.kind() == ErrorKind::Corrupt || error.kind().is_transient() => {}
            Err(error) => return Err(broken(format!("a changed byte is no reason for {}: {error}", error.kind()))),
        }
    }
    Ok(())
}
