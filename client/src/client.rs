//! Makes calls: finds a controller that answers, asks it, and asks again until the deadline is over.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use hawser_process::tls::Identity;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Response, Status};

use crate::{
    ClientError, Controller, Rejection, Tried, Unanswered, endpoint::Endpoint, search, verdict::Verdict,
};

/// Pause after the first round in which no controller answered; it doubles with each further one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// For the endpoints that have not answered when the first one has.
const GRACE_OF_OTHERS: Duration = Duration::from_secs(1);
/// No endpoint is known to answer.
const NOBODY: usize = usize::MAX;
pub(crate) const NO_ANSWER: &str = "no answer in time";

/// A client of one cluster. Cheap to share behind an `Arc`; calls may run at once.
pub struct Client {
    endpoints: Vec<Endpoint>,
    /// Index of the endpoint that answered last, or [`NOBODY`].
    preferred: AtomicUsize,
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
        Ok(Self { endpoints, preferred: AtomicUsize::new(NOBODY) })
    }

    /// The addresses that this client asks, in the order in which they were given.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.address.as_str())
    }

    /// Makes one call: `attempt` is run against the controller that answered last, else the leader, else any,
    /// again and again until one gives a final answer or `within` has passed.
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

    /// The controller that answered last has fallen silent: the next call looks for another.
    pub(crate) fn forget_preferred(&self) {
        self.preferred.store(NOBODY, Ordering::Relaxed);
    }

    async fn travel<T, F, Fut>(&self, mut journey: Journey<'_>, mut attempt: F) -> Result<T, ClientError>
    where
        F: FnMut(Controller) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + journey.within;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(SHORTEST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let mut pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            if let Some(index) = self.whom_to_ask(&mut journey, deadline).await {
                let endpoint = &self.endpoints[index];
                let target = Controller::new(endpoint.channel.clone(), deadline);
                let status = match timeout_at(deadline, attempt(target)).await {
                    Ok(Ok(answer)) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(answer.into_inner());
                    }
                    Ok(Err(status)) => status,
                    Err(_) => {
                        journey.note(&endpoint.address, NO_ANSWER.to_owned(), false);
                        journey.unanswered = true;
                        return Err(journey.unreachable());
                    }
                };
                self.preferred.store(NOBODY, Ordering::Relaxed);
                journey.failed_at = Some(index);
                match Verdict::of(&status) {
                    Verdict::Final => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Err(ClientError::Rejected(Rejection::from_status(journey.what, &status)));
                    }
                    Verdict::Untrusted(outcome) => journey.note(&endpoint.address, outcome, true),
                    Verdict::Again { after, perhaps_done, outcome } => {
                        tracing::debug!(endpoint = endpoint.address, %outcome, "asking again");
                        pause = pause.max(after.unwrap_or_default());
                        journey.unanswered |= perhaps_done;
                        journey.note(&endpoint.address, outcome, false);
                    }
                }
            }
            if journey.untrusted == self.endpoints.len() {
                return Err(journey.not_trusted());
            }
            let next = Instant::now() + pause;
            if next >= deadline {
                return Err(journey.unreachable());
            }
            sleep_until(next).await;
        }
    }

    /// Index of the endpoint to ask next; `None` where nobody answers.
    async fn whom_to_ask(&self, journey: &mut Journey<'_>, deadline: Instant) -> Option<usize> {
        if self.endpoints.len() == 1 {
            return Some(0);
        }
        let preferred = self.preferred.load(Ordering::Relaxed);
        if preferred != NOBODY {
            return Some(preferred);
        }
        let found = search::search(&self.endpoints, journey.failed_at, deadline).await;
        journey.untrusted = 0;
        for (index, unanswered) in found.unanswered {
            journey.note(&self.endpoints[index].address, unanswered.outcome, unanswered.untrusted);
        }
        found.best
    }

    /// Asks every endpoint at once, each a single time, and gives what each answered, in their order. Once one
    /// has answered, the others get a second more.
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
        let mut until = Instant::now() + within;
        let mut asked = JoinSet::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let call = attempt(Controller::new(endpoint.channel.clone(), until));
            asked.spawn(async move { (index, call.await) });
        }
        let mut answers: BTreeMap<usize, Result<T, Unanswered>> = BTreeMap::new();
        while let Ok(Some(joined)) = timeout_at(until, asked.join_next()).await {
            let Ok((index, answer)) = joined else { continue };
            if answer.is_ok() {
                until = until.min(Instant::now() + GRACE_OF_OTHERS);
            }
            let answer = answer.map(Response::into_inner).map_err(|status| Unanswered::from_status(&status));
            answers.insert(index, answer);
        }
        let each = self.endpoints.iter().enumerate();
        each.map(|(index, endpoint)| {
            let silent = || Err(Unanswered { outcome: NO_ANSWER.to_owned(), untrusted: false });
            (endpoint.address.clone(), answers.remove(&index).unwrap_or_else(silent))
        })
        .collect()
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
    /// Index of the endpoint where the last attempt failed.
    failed_at: Option<usize>,
    /// How many endpoints failed the check of certificates this time.
    untrusted: usize,
}

impl<'a> Journey<'a> {
    fn new(what: &'a str, within: Duration, changes: bool) -> Self {
        Self { what, within, tried: Vec::new(), changes, unanswered: false, failed_at: None, untrusted: 0 }
    }

    fn note(&mut self, endpoint: &str, outcome: String, untrusted: bool) {
        self.untrusted += usize::from(untrusted);
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
