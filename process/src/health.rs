//! The read-only port of a daemon: plain HTTP/1 with `/live`, `/ready` and `/metrics`.
//!
//! It must never change anything or say anything secret: it is the one port without TLS.

use std::{convert::Infallible, fmt, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Admitted, Limits};

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
/// A client that sends no request within this time is cut off.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// The same for one that reads no answer: a connection ends when it is that old, after the answer that is under way.
/// Who scrapes metrics dials anew.
const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// And this is how long that answer may take then.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// A kubelet and a few scrapers; whoever opens more, from wherever, starves no other.
const LIMITS: Limits = Limits { in_all: 64, per_address: 16, when_scarce: 2 };
/// Of one request's head; what asks this port for something takes a few hundred bytes.
const HEAD_LIMIT: usize = 8 * 1024;

/// Whether the program can serve its users right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, and why, in one line.
    NotReady(String),
}

/// What the port answers from. Both closures must return at once.
#[derive(Clone)]
pub struct Health {
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    metrics: Arc<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>,
}

impl Health {
    /// Readiness from `readiness`, metrics from `metrics` in the OpenMetrics text form.
    pub fn new(
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
        metrics: impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static,
    ) -> Self {
        Self { readiness: Arc::new(readiness), metrics: Arc::new(metrics) }
    }

    /// As [`Health::new`], with the metrics of a registry.
    pub fn with_registry(
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
        registry: Arc<Registry>,
    ) -> Self {
        Self::new(readiness, move || {
            let mut text = String::new();
            encode(&mut text, &registry)?;
            Ok(text)
        })
    }

    /// Answers on `listener` until `cancelled`.
    pub async fn serve(self, listener: TcpListener, cancelled: CancellationToken) {
        let admission = Admission::new(LIMITS);
        loop {
            let accepted = tokio::select! {
                () = cancelled.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(admitted) = admission.admit(peer.ip()) else {
                        tracing::debug!(%peer, "the health port has no room for a connection");
                        continue;
                    };
                    let health = self.clone();
                    let cancelled = cancelled.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = cancelled.cancelled() => {}
                            () = health.serve_connection(stream, peer, admitted) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the health port cannot accept a connection");
                    // Out of file descriptors, most likely; trying again at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve_connection(self, stream: TcpStream, peer: SocketAddr, _admitted: Admitted) {
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = self.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut serving = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .max_buf_size(HEAD_LIMIT)
                .serve_connection(TokioIo::new(stream), service)
        );
        let served = match timeout(CONNECTION_AGE, serving.as_mut()).await {
            Ok(served) => served,
            Err(_) => {
                serving.as_mut().graceful_shutdown();
                timeout(LAST_ANSWER, serving).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "a connection to the health port broke");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(path, "/live" | "/ready" | "/metrics") {
            let text = "not found; this port answers /live, /ready and /metrics\n";
            return response(StatusCode::NOT_FOUND, TEXT_TYPE, text.to_owned());
        }
        if method != Method::GET {
            let text = "only GET is allowed\n".to_owned();
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT_TYPE, text);
            refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
            return refused;
        }
        match path {
            "/live" => response(StatusCode::OK, TEXT_TYPE, "live\n".to_owned()),
            "/ready" => match (self.readiness)() {
                Readiness::Ready => response(StatusCode::OK, TEXT_TYPE, "ready\n".to_owned()),
                Readiness::NotReady(reason) => {
                    response(StatusCode::SERVICE_UNAVAILABLE, TEXT_TYPE, format!("not ready: {reason}\n"))
                }
            },
            _ => match (self.metrics)() {
                Ok(text) => response(StatusCode::OK, METRICS_TYPE, text),
                Err(fmt::Error) => {
                    let text = "the metrics cannot be written\n".to_owned();
                    response(StatusCode::INTERNAL_SERVER_ERROR, TEXT_TYPE, text)
                }
            },
        }
    }
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A port whose readiness is `readiness` and whose registry counts `example`.
    async fn started(readiness: Readiness) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("example", "An example", counter.clone());
        counter.inc();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancelled = CancellationToken::new();
        let health = Health::with_registry(move || readiness.clone(), Arc::new(registry));
        (address, cancelled.clone(), tokio::spawn(health.serve(listener, cancelled)))
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        exchange(address, &request).await
    }

    #[tokio::test]
    async fn each_path_answers_and_everything_else_is_refused() {
        let (address, cancelled, server) = started(Readiness::Ready).await;
        for (method, path, status, text) in [
            ("GET", "/live", "200", "live"),
            ("GET", "/ready", "200", "ready"),
            ("GET", "/metrics", "200", "example_total 1"),
            ("GET", "/", "404", "/live"),
            ("GET", "/live/", "404", "/live"),
            ("POST", "/metrics", "405", "only GET"),
            ("DELETE", "/nothing", "404", "not found"),
        ] {
            let answer = ask(address, method, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
            assert!(answer.contains(text), "{method} {path}: {answer}");
        }
        cancelled.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_not_ready_says_why() {
        let (address, _cancelled, _server) = started(Readiness::NotReady("no leader".into())).await;

        let answer = ask(address, "GET", "/ready").await;

        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("not ready: no leader\n"), "{answer}");
    }

    #[tokio::test]
    async fn garbage_ends_its_own_connection_only() {
        let (address, _cancelled, _server) = started(Readiness::Ready).await;

        let garbage = exchange(address, "\u{1}\u{2}\u{3} nonsense\r\n\r\n").await;
        let after = ask(address, "GET", "/live").await;

        assert!(!garbage.contains("200 OK"), "{garbage}");
        assert!(after.starts_with("HTTP/1.1 200 "), "{after}");
    }

    /// A connection from another address of this host than [`ask`]'s.
    async fn from(address: [u8; 4], to: SocketAddr) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    }

    /// Whether the other side has closed a connection.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        !matches!(stream.read(&mut [0; 1]).await, Ok(1..))
    }

    #[tokio::test]
    async fn a_flood_from_one_address_is_turned_away_and_others_are_served() {
        let (address, _cancelled, _server) = started(Readiness::Ready).await;
        let mut flood = Vec::new();
        for _ in 0..LIMITS.per_address {
            flood.push(from([127, 0, 0, 2], address).await);
        }

        // None of them says anything; one more finds no room.
        assert!(is_closed(&mut from([127, 0, 0, 2], address).await).await);
        let other = ask(address, "GET", "/live").await;

        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
        drop(flood);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_slowly_or_does_not_read_is_cut_off() {
        let (address, _cancelled, _server) = started(Readiness::Ready).await;
        let began = tokio::time::Instant::now();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /live HTTP/1.1\r\nx-slow: ").await.unwrap();
        assert!(is_closed(&mut slow).await);
        assert!(began.elapsed() <= HEADER_DEADLINE * 2, "after {:?}", began.elapsed());

        // It asks again and again, and reads none of the answers.
        let mut deaf = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n".repeat(1000);
        let asking = async { while deaf.write_all(&request).await.is_ok() {} };
        let limit = CONNECTION_AGE + LAST_ANSWER + HEADER_DEADLINE;
        timeout(limit, asking).await.expect("it was not cut off");
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_refused() {
        let (address, _cancelled, _server) = started(Readiness::Ready).await;
        let long = format!("GET /live HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(HEAD_LIMIT * 2));

        let refused = exchange(address, &long).await;
        let after = ask(address, "GET", "/live").await;

        assert!(!refused.contains("200 OK"), "{refused}");
        assert!(after.starts_with("HTTP/1.1 200 "), "{after}");
    }
}
