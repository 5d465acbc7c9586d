//! Asks one controller after the other until one answers or the deadline is over.

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use hawser_process::tls::Identity;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Response, Status};

use crate::{
    ClientError, Controller, Rejection, Tried, Unanswered, controller::Controller as Target,
    endpoint::Endpoint, search, verdict::Verdict,
};

/// Pause after the first round in which no controller answered; it doubles with each further one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const NO_ANSWER: &str = "no answer in time";

/// A client of one cluster. Cheap to share behind an `Arc`; calls may run at once.
pub struct Client {
    endpoints: Vec<Endpoint>,
    /// Index of the endpoint that answered last.
    preferred: AtomicUsize,
    /// Done before the first call.
    searched: OnceCell<()>,
}

impl Client {
    /// A client that asks the controllers at `addresses` (host:port) as `identity`. Dials nothing yet.
    ///
    /// # Errors
    /// If there is no address or one cannot be understood.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new<A: AsRef<str>>(addresses: &[A], identity: &Identity) -> Result<Self, ClientError> {
        hawser_process::tls::install_crypto_provider();
        let endpoints = addresses
            .iter()
            .map(|address| Endpoint::new(address.as_ref(), identity))
            .collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoint);
        }
        Ok(Self { endpoints, preferred: AtomicUsize::new(0), searched: OnceCell::new() })
    }

    /// The addresses that this client asks, in the order in which they were given.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.address.as_str())
    }

    /// Makes one call: `attempt` is run against one controller after the other, beginning with the one that
    /// answered last (at first: the leader), until one gives a final answer or `within` has passed.
    ///
    /// `what` says it as a verb and its object ("create node n1"). For a mutating call, `attempt` sends the
    /// same request with the same request key each time.
    ///
    /// # Errors
    /// [`ClientError::Rejected`] as soon as the cluster refuses, [`ClientError::NotTrusted`] as soon as every
    /// endpoint failed the check of certificates, else [`ClientError::Unreachable`] at the deadline.
    pub async fn call<T, F, Fut>(&self, what: &str, within: Duration, attempt: F) -> Result<T, ClientError>
    where
        F: FnMut(Controller) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.travel(Journey::new(what, within, true), attempt).await
    }

    /// As [`Client::call`], for what changes nothing.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn read<T, F, Fut>(&self, what: &str, within: Duration, attempt: F) -> Result<T, ClientError>
    where
        F: FnMut(Controller) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.travel(Journey::new(what, within, false), attempt).await
    }

    async fn travel<T, F, Fut>(&self, mut journey: Journey<'_>, mut attempt: F) -> Result<T, ClientError>
    where
        F: FnMut(Controller) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + journey.within;
        // Where the deadline cuts the search short, the call itself says who did not answer.
        let _cut_short = timeout_at(deadline, self.searched.get_or_init(|| self.search())).await;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(SHORTEST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let mut pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            let mut untrusted = 0;
            let first = self.preferred.load(Ordering::Relaxed);
            for step in 0..self.endpoints.len() {
                let index = (first + step) % self.endpoints.len();
                let endpoint = &self.endpoints[index];
                let target = Target::new(endpoint.channel.clone(), deadline);
                let status = match timeout_at(deadline, attempt(target)).await {
                    Ok(Ok(answer)) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(answer.into_inner());
                    }
                    Ok(Err(status)) => status,
                    Err(_) => {
                        journey.note(&endpoint.address, NO_ANSWER.to_owned());
                        journey.unanswered = true;
                        return Err(journey.unreachable());
                    }
                };
                match Verdict::of(&status) {
                    Verdict::Final => {
                        return Err(ClientError::Rejected(Rejection::from_status(journey.what, &status)));
                    }
                    Verdict::Untrusted(outcome) => {
                        untrusted += 1;
                        journey.note(&endpoint.address, outcome);
                    }
                    Verdict::Again { after, perhaps_done, outcome } => {
                        tracing::debug!(endpoint = endpoint.address, %outcome, "trying the next controller");
                        pause = pause.max(after.unwrap_or_default());
                        journey.unanswered |= perhaps_done;
                        journey.note(&endpoint.address, outcome);
                    }
                }
            }
            if untrusted == self.endpoints.len() {
                return Err(journey.not_trusted());
            }
            let next = Instant::now() + pause;
            if next >= deadline {
                return Err(journey.unreachable());
            }
            sleep_until(next).await;
        }
    }

    async fn search(&self) {
        if self.endpoints.len() > 1
            && let Some(index) = search::best(&self.endpoints).await
        {
            self.preferred.store(index, Ordering::Relaxed);
        }
    }

    /// Asks every endpoint at once, each a single time, and gives what each answered, in their order.
    pub async fn ask_each<T, F, Fut>(
        &self,
        within: Duration,
        attempt: F,
    ) -> Vec<(String, Result<T, Unanswered>)>
    where
        F: Fn(Controller) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>> + Send + 'static,
        T: Send + 'static,
    {
        let deadline = Instant::now() + within;
        let asked: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| {
                let call = attempt(Target::new(endpoint.channel.clone(), deadline));
                (endpoint.address.clone(), tokio::spawn(timeout_at(deadline, call)))
            })
            .collect();
        let unanswered = |outcome: String| Unanswered { outcome, untrusted: false };
        let mut answers = Vec::with_capacity(asked.len());
        for (address, task) in asked {
            let answer = match task.await {
                Ok(Ok(Ok(answer))) => Ok(answer.into_inner()),
                Ok(Ok(Err(status))) => Err(match Verdict::of(&status) {
                    Verdict::Final => unanswered(status.message().to_owned()),
                    Verdict::Untrusted(outcome) => Unanswered { outcome, untrusted: true },
                    Verdict::Again { outcome, .. } => unanswered(outcome),
                }),
                Ok(Err(_)) => Err(unanswered(NO_ANSWER.to_owned())),
                Err(error) => Err(unanswered(error.to_string())),
            };
            answers.push((address, answer));
        }
        answers
    }
}

/// What became of a call so far.
struct Journey<'a> {
    what: &'a str,
    within: Duration,
    tried: Vec<Tried>,
    /// Whether what is asked for changes anything.
    changes: bool,
    /// A request was sent whose answer never came.
    unanswered: bool,
}

impl<'a> Journey<'a> {
    fn new(what: &'a str, within: Duration, changes: bool) -> Self {
        Self { what, within, tried: Vec::new(), changes, unanswered: false }
    }

    fn note(&mut self, endpoint: &str, outcome: String) {
        match self.tried.iter_mut().find(|tried| tried.endpoint == endpoint) {
            Some(tried) => tried.outcome = outcome,
            None => self.tried.push(Tried { endpoint: endpoint.to_owned(), outcome }),
        }
    }

    fn unreachable(self) -> ClientError {
        ClientError::Unreachable {
            what: self.what.to_owned(),
            within: self.within,
            tried: self.tried,
            perhaps_done: self.changes && self.unanswered,
        }
    }

    fn not_trusted(self) -> ClientError {
        ClientError::NotTrusted { what: self.what.to_owned(), tried: self.tried }
    }
}
