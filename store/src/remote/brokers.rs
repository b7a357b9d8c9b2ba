//! Which broker serves a call.
//!
//! The one that served last is asked first. When it cannot be reached the next one is, as long as no byte of a body has
//! left. When there are several, none of which has memory at once, the first of those is asked again and waits in turn.
//!
//! A broker that accepts connections and says nothing (stopped, swapped out, cut off) must not hold a call for long, while
//! a storage that is slow may: so whoever waits for an answer pings the broker meanwhile, over a connection of its own
//! that no flow control of a body can hold up. A broker that does not answer that counts as one that cannot be reached.

use coffer_proto::channel::{MAX_MESSAGE_BYTES, connect};
use coffer_proto::status::{from_status, is_busy, is_transport};
use coffer_proto::v1::PingRequest;
use coffer_proto::v1::broker_client::BrokerClient;
use coffer_stdx::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;

/// Between pings of a broker that owes an answer, and before the first.
const PING_EVERY: Duration = Duration::from_secs(3);
/// A broker that takes longer to answer one does not answer.
const PING_WITHIN: Duration = Duration::from_secs(10);
/// How long a broker may wait for memory while others have not been asked, milliseconds.
const MEMORY_WAIT_MS: u32 = 1_000;

pub(super) type Client = BrokerClient<Channel>;

/// The brokers of one location, best first.
pub(super) struct Brokers {
    all: Vec<Broker>,
    preferred: AtomicUsize,
}

pub(super) struct Broker {
    /// "broker host:port".
    pub(super) name: String,
    client: Client,
    pings: Client,
}

/// Why a broker was left.
enum Left {
    Unreachable(Error),
    Busy(Error),
}

impl Brokers {
    /// Connects when first used. Call it within a tokio runtime.
    pub(super) fn open(addresses: &[String]) -> Result<Brokers> {
        let all = addresses.iter().map(|address| Broker::open(address)).collect::<Result<Vec<_>>>()?;
        Ok(Brokers { all, preferred: AtomicUsize::new(0) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.all.iter().map(|broker| broker.name.as_str()).collect()
    }

    /// Make a call. `request` gets a client and how long the broker may wait for memory (milliseconds, 0: in turn);
    /// `may_repeat` says whether a request that reached nobody can still be made again.
    pub(super) async fn ask<T, F>(
        &self,
        may_repeat: impl Fn() -> bool,
        request: impl Fn(Client, u32) -> F,
    ) -> Result<(T, &Broker)>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut candidates: Vec<usize> = (0..self.all.len()).map(|turn| (first + turn) % self.all.len()).collect();
        let mut wait = if candidates.len() > 1 { MEMORY_WAIT_MS } else { 0 };
        let mut unreachable = Vec::new();
        loop {
            let (mut busy, mut waits_for_memory) = (Vec::new(), Vec::new());
            for at in std::mem::take(&mut candidates) {
                let broker = &self.all[at];
                match broker.outcome(request(broker.client.clone(), wait)).await? {
                    Ok(answer) => {
                        self.preferred.store(at, Ordering::Relaxed);
                        return Ok((answer, broker));
                    }
                    Err(left) if !may_repeat() => return Err(left.cause()),
                    Err(Left::Unreachable(error)) => unreachable.push(error.message().to_owned()),
                    Err(Left::Busy(error)) => {
                        busy.push(error.message().to_owned());
                        waits_for_memory.push(at);
                    }
                }
            }
            unreachable.truncate(self.all.len());
            // Asked without a limit a broker is not busy again, so this ends.
            if waits_for_memory.is_empty() || wait == 0 {
                unreachable.append(&mut busy);
                return Err(Error::unavailable(unreachable.join("; ")));
            }
            (candidates, wait) = (waits_for_memory, 0);
        }
    }
}

impl Left {
    fn cause(self) -> Error {
        match self {
            Left::Unreachable(error) => Error::unavailable(error.message()),
            Left::Busy(error) => error,
        }
    }
}

impl Broker {
    fn open(address: &str) -> Result<Broker> {
        let client = |channel: Channel| {
            BrokerClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES)
        };
        let name = format!("broker {address}");
        Ok(Broker { name, client: client(connect(address)?), pings: client(connect(address)?) })
    }

    /// How a call ended: with an answer, with a reason to ask another broker, or with an error that another broker would
    /// answer as well.
    async fn outcome<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<Result<T, Left>> {
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            silent = self.silent() => Err(silent),
        };
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(status) if is_busy(&status) => Ok(Err(Left::Busy(self.error(&status)))),
            Err(status) if is_transport(&status) => {
                let error = self.error(&status);
                tracing::warn!(broker = self.name, %error, "broker not reached");
                Ok(Err(Left::Unreachable(error)))
            }
            Err(status) => Err(self.error(&status)),
        }
    }

    /// Ends when the broker answers no ping.
    async fn silent(&self) -> Status {
        loop {
            tokio::time::sleep(PING_EVERY).await;
            let mut pings = self.pings.clone();
            match tokio::time::timeout(PING_WITHIN, pings.ping(PingRequest::default())).await {
                Ok(Err(status)) if is_transport(&status) => return status,
                Ok(_) => {}
                Err(_) => {
                    return Status::unavailable(format!(
                        "answered neither the request nor a ping within {} s; is its process stopped or its host \
                         overloaded or cut off? See SHOW BROKER",
                        PING_WITHIN.as_secs()
                    ));
                }
            }
        }
    }

    /// What a broker answered, under its name: "permission denied" is of use only with the host it was denied on.
    fn error(&self, status: &Status) -> Error {
        error_of(status, &self.name)
    }
}

/// As [`Broker::error`], where only the name is at hand.
pub(super) fn error_of(status: &Status, broker: &str) -> Error {
    let error = from_status(status, broker);
    match error.message().starts_with(broker) {
        true => error,
        false => Error::new(error.kind(), format!("{broker}: {}", error.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_proto::status::{busy, to_status};
    use coffer_stdx::ErrorKind;
    use std::sync::Mutex;

    fn brokers(count: usize) -> Brokers {
        let addresses: Vec<String> = (1..=count).map(|port| format!("127.0.0.1:{port}")).collect();
        Brokers::open(&addresses).unwrap()
    }

    /// The answers of calls in order, and how long each was allowed to wait for memory.
    struct Script {
        answers: Mutex<std::vec::IntoIter<Result<u8, Status>>>,
        waits: Mutex<Vec<u32>>,
    }

    impl Script {
        fn new(answers: Vec<Result<u8, Status>>) -> Script {
            Script { answers: Mutex::new(answers.into_iter()), waits: Mutex::default() }
        }

        async fn play(&self, brokers: &Brokers, may_repeat: bool) -> Result<(u8, String)> {
            let asked = brokers.ask(
                || may_repeat,
                |_, wait| {
                    self.waits.lock().unwrap().push(wait);
                    std::future::ready(self.answers.lock().unwrap().next().expect("one call too many"))
                },
            );
            asked.await.map(|(answer, broker)| (answer, broker.name.clone()))
        }
    }

    #[tokio::test]
    async fn the_next_one_is_asked_and_remembered() {
        let brokers = brokers(3);
        let refused = || Err(Status::unavailable("connection refused"));
        let script = Script::new(vec![refused(), Ok(1), Ok(2)]);
        assert_eq!(script.play(&brokers, true).await.unwrap(), (1, "broker 127.0.0.1:2".to_owned()));
        assert_eq!(script.play(&brokers, true).await.unwrap(), (2, "broker 127.0.0.1:2".to_owned()));
        let script = Script::new(vec![refused(), refused(), refused()]);
        let error = script.play(&brokers, true).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!((1..=3).all(|port| error.message().contains(&format!("127.0.0.1:{port}: connection"))), "{error}");
        let error = Script::new(vec![refused()]).play(&brokers, false).await.unwrap_err();
        assert_eq!(error.message(), "broker 127.0.0.1:2: connection refused");
    }

    #[tokio::test]
    async fn a_broker_without_memory_sends_on_and_in_the_end_one_waits_in_turn() {
        let refused = Err(Status::unavailable("refused"));
        let script = Script::new(vec![Err(busy("no memory")), refused, Err(busy("no memory")), Ok(1)]);
        assert_eq!(script.play(&brokers(3), true).await.unwrap(), (1, "broker 127.0.0.1:1".to_owned()));
        assert_eq!(*script.waits.lock().unwrap(), [MEMORY_WAIT_MS, MEMORY_WAIT_MS, MEMORY_WAIT_MS, 0]);
        let alone = Script::new(vec![Ok(1)]);
        alone.play(&brokers(1), true).await.unwrap();
        assert_eq!(*alone.waits.lock().unwrap(), [0]);
    }

    #[tokio::test]
    async fn what_a_broker_answers_is_its_answer() {
        let script = Script::new(vec![Err(to_status(&Error::unavailable("s3 is down")))]);
        let error = script.play(&brokers(2), true).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "broker 127.0.0.1:1: s3 is down"));
    }
}
