//! An administrator of the simulated cluster: asks any controller, and asks again under the same key until there is an
//! answer.
//!
//! It must never take silence for an answer: what was not answered may have been done.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hawser_process::{
    dial::Dialer,
    tls::{PeerIdentity, Role},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{network::Network, trace::Trace, transport::endpoint};

/// What one controller may take.
const PATIENCE: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_millis(200);

/// What a call came to.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// It was done.
    Done(T),
    /// It was refused, and nothing was changed.
    Refused(Status),
    /// Nobody answered: it may have been done, or be done later.
    Unknown,
}

impl<T> Outcome<T> {
    pub(crate) fn done(self) -> Option<T> {
        match self {
            Self::Done(answer) => Some(answer),
            Self::Refused(_) | Self::Unknown => None,
        }
    }
}

/// An administrator.
pub(crate) struct Administrator {
    name: String,
    channels: Vec<(String, Channel)>,
    random: Mutex<StdRng>,
    trace: Trace,
}

impl Administrator {
    /// One who works on `host` and knows the controllers at `addresses`.
    pub(crate) fn new(
        network: &Network,
        cluster_id: &str,
        host: &str,
        name: &str,
        addresses: &[String],
        seed: u64,
        trace: Trace,
    ) -> Self {
        let identity = PeerIdentity {
            cluster_id: cluster_id.to_owned(),
            role: Role::Administrator,
            name: name.to_owned(),
        };
        let dialer: Dialer = network.dialer(host, 0, identity);
        let channels = addresses
            .iter()
            .map(|address| {
                let endpoint = endpoint(address).expect("the simulation's addresses are addresses");
                (address.clone(), dialer.lazy(&endpoint))
            })
            .collect();
        Self { name: name.to_owned(), channels, random: Mutex::new(StdRng::seed_from_u64(seed)), trace }
    }

    /// A key that no other request has.
    pub(crate) fn key(&self) -> String {
        format!("{}-{:016x}", self.name, self.draw(|random| random.random::<u64>()))
    }

    /// Draws by chance.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks one controller after another until one answers or `within` has passed, and tells the trace.
    pub(crate) async fn call<T, F, Fut>(&self, what: &str, within: Duration, attempt: F) -> Outcome<T>
    where
        F: FnMut(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let outcome = self.quietly(within, attempt).await;
        match &outcome {
            Outcome::Done(_) => self.trace.add(&self.name, format_args!("{what}: done")),
            Outcome::Refused(status) => {
                self.trace.add(&self.name, format_args!("{what}: refused, {}", status.message()));
            }
            Outcome::Unknown => self.trace.add(&self.name, format_args!("{what}: no answer")),
        }
        outcome
    }

    /// As [`Administrator::call`], without a word: for reads.
    pub(crate) async fn quietly<T, F, Fut>(&self, within: Duration, mut attempt: F) -> Outcome<T>
    where
        F: FnMut(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + within;
        let first = self.draw(|random| random.random_range(0..self.channels.len()));
        for turn in 0.. {
            let (_, channel) = &self.channels[(first + turn) % self.channels.len()];
            match timeout(PATIENCE, attempt(channel.clone())).await {
                Ok(Ok(answer)) => return Outcome::Done(answer.into_inner()),
                // What was asked before may still be done, but not after this refusal was committed.
                Ok(Err(status)) if is_final(&status) => return Outcome::Refused(status),
                Ok(Err(_)) | Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                break;
            }
            sleep(PAUSE).await;
        }
        Outcome::Unknown
    }
}

fn is_final(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::Internal
    )
}
