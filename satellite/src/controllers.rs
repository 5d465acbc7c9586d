//! Where the controllers are and how to reach them.
//!
//! A dial is always a new connection: one that a power cut left half open must never be waited for twice.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use hawser_process::dial::Dialer;
use hawser_proto::names;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

const CONNECT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Why the list of controllers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControllersError {
    /// There is none.
    #[error("no controller is named; write controllers = [\"HOST:6470\", …]")]
    Empty,
    /// One is no address.
    #[error("controller {address:?} cannot be dialled: {reason}")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong.
        reason: String,
    },
}

/// The controllers that are configured, in their order.
pub struct Controllers {
    dialer: Dialer,
    all: Vec<Controller>,
    /// The one that answered last or has the session. A hint: it says who is asked first, never who is believed.
    last_heard: AtomicUsize,
}

struct Controller {
    name: String,
    endpoint: Endpoint,
    /// Connects when it is first used and again when it broke.
    kept: Channel,
}

impl Controllers {
    /// Controllers at `addresses` (host:port), reached with `tls`; without it in plain text, for tests.
    ///
    /// # Errors
    /// If there is none, or one is no address.
    pub fn new(addresses: &[String], tls: Option<&ClientTlsConfig>) -> Result<Self, ControllersError> {
        Self::through(Dialer::tcp(), addresses, tls)
    }

    /// As [`Controllers::new`], reached through `dialer`.
    ///
    /// # Errors
    /// As [`Controllers::new`].
    pub fn through(
        dialer: Dialer,
        addresses: &[String],
        tls: Option<&ClientTlsConfig>,
    ) -> Result<Self, ControllersError> {
        if addresses.is_empty() {
            return Err(ControllersError::Empty);
        }
        let all =
            addresses.iter().map(|address| controller(&dialer, address, tls)).collect::<Result<_, _>>()?;
        Ok(Self { dialer, all, last_heard: AtomicUsize::new(0) })
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Address of one, as configured.
    pub fn name(&self, controller: usize) -> &str {
        &self.all[controller].name
    }

    /// The controller to ask first.
    pub(crate) fn last_heard(&self) -> usize {
        self.last_heard.load(Ordering::Relaxed)
    }

    /// Notes that `controller` has answered.
    pub(crate) fn heard(&self, controller: usize) {
        self.last_heard.store(controller, Ordering::Relaxed);
    }

    /// A connection that is shared by questions, made when needed.
    pub(crate) fn kept(&self, controller: usize) -> Channel {
        self.all[controller].kept.clone()
    }

    /// A new connection.
    ///
    /// # Errors
    /// If there is none within a second.
    pub(crate) async fn dial(&self, controller: usize) -> Result<Channel, tonic::transport::Error> {
        self.dialer.connect(&self.all[controller].endpoint).await
    }
}

fn controller(
    dialer: &Dialer,
    address: &str,
    tls: Option<&ClientTlsConfig>,
) -> Result<Controller, ControllersError> {
    let wrong = |reason: String| ControllersError::Address { address: address.to_owned(), reason };
    names::endpoint("controllers", address).map_err(|error| wrong(error.to_string()))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|error| wrong(error.to_string()))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(false);
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.clone()).map_err(|error| wrong(error.to_string()))?;
    }
    let kept = dialer.lazy(&endpoint);
    Ok(Controller { name: address.to_owned(), endpoint, kept })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_is_refused_by_name() {
        for (addresses, expected) in [
            (&[][..], "no controller is named"),
            (&["n1"], "is not host:port"),
            (&[":6470"], "is not host:port"),
            (&["n1:0"], "is not host:port"),
            (&["n1:6470", "https://n2:6470"], "https://n2:6470"),
        ] {
            let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
            let error = Controllers::new(&addresses, None).err().unwrap().to_string();
            assert!(error.contains(expected), "{addresses:?}: {error}");
        }
    }

    #[tokio::test]
    async fn names_and_literals_are_addresses() {
        let addresses = ["10.77.0.1:6470", "n2.example.org:6470", "[fd00::3]:6470"].map(str::to_owned);

        let controllers = Controllers::new(&addresses, None).unwrap();

        assert_eq!(controllers.len(), 3);
        assert_eq!(controllers.name(2), "[fd00::3]:6470");
    }
}
