//! A watch against controllers that break off, fall behind, or have forgotten.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use hawser_client::{Client, ClientError};
use hawser_process::tls::{self, Authority, Identity, Role};
use hawser_proto::v1::{
    self,
    watch_service_server::{WatchService, WatchServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

/// What one stream says until it ends.
type Words = Vec<Result<v1::WatchResponse, Status>>;

/// What the streams of a controller say, in their order, and after which revision each was asked for.
#[derive(Clone, Default)]
struct Fake {
    streams: Arc<Mutex<Vec<Words>>>,
    asked_after: Arc<Mutex<Vec<u64>>>,
}

#[tonic::async_trait]
impl WatchService for Fake {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.asked_after.lock().unwrap().push(request.into_inner().after_revision);
        let mut streams = self.streams.lock().unwrap();
        if streams.is_empty() {
            return Err(Status::unavailable("nothing more is scripted"));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(streams.remove(0)))))
    }
}

fn identity(authority: &Authority, role: Role, name: &str) -> Identity {
    let directory = tempfile::tempdir().unwrap();
    authority.sign(role, name, SystemTime::now()).unwrap().save(directory.path()).unwrap();
    Identity::load(directory.path()).unwrap()
}

/// A client of two controllers that both answer by the same script.
async fn client_of(fake: &Fake) -> Client {
    tls::install_crypto_provider();
    let authority = Authority::generate("c1", SystemTime::now()).unwrap();
    let mut addresses = Vec::new();
    for name in ["n1", "n2"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap().to_string());
        let server = Server::builder()
            .tls_config(identity(&authority, Role::Controller, name).server_tls())
            .unwrap()
            .add_service(WatchServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }
    Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap()
}

fn said(revision: u64, changes: usize) -> Result<v1::WatchResponse, Status> {
    Ok(v1::WatchResponse { revision, changes: vec![v1::Change::default(); changes] })
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_after_what_it_has_heard() {
    // Given streams that end without a word, with a word that passes, and before anything has happened.
    let fake = Fake::default();
    *fake.streams.lock().unwrap() = vec![
        vec![said(7, 0)],
        vec![said(7, 0), said(8, 2), said(11, 0), Err(Status::unavailable("cut off"))],
        vec![said(11, 0), said(12, 1)],
    ];
    let client = client_of(&fake).await;

    let mut watch = client.watch(v1::WatchRequest::default());
    let mut heard = Vec::new();
    while heard.last() != Some(&12) {
        let response = watch.next().await.unwrap();
        if !response.changes.is_empty() {
            heard.push(response.revision);
        }
    }

    assert_eq!(heard, [8, 12], "each change once");
    assert_eq!(*fake.asked_after.lock().unwrap(), [0, 7, 11]);
}

#[tokio::test]
async fn what_is_no_longer_kept_ends_the_watch() {
    let details = ErrorDetails::with_error_info("compacted", "hawser", HashMap::new());
    let gone = Status::with_error_details(Code::OutOfRange, "changes up to revision 90 are gone", details);
    let fake = Fake::default();
    *fake.streams.lock().unwrap() = vec![vec![Err(gone)]];
    let client = client_of(&fake).await;

    let end = client.watch(v1::WatchRequest { after_revision: 5, ..Default::default() }).next().await;

    let ClientError::Rejected(rejection) = end.unwrap_err() else { panic!("final") };
    assert_eq!(rejection.reason, "compacted");
    assert_eq!(rejection.message, "changes up to revision 90 are gone");
    assert_eq!(*fake.asked_after.lock().unwrap(), [5], "nobody else is asked");
}
