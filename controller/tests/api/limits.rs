//! Clients that open too much, say nothing, or say too much: they are cut off, and everybody else is answered meanwhile.

use hawser_controller::api::entrance;
use hawser_process::{
    open_files,
    tls::{HANDSHAKE, Role},
};
use hawser_proto::v1::{
    self, node_service_client::NodeServiceClient, session_service_client::SessionServiceClient,
    watch_service_client::WatchServiceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::cluster::{Cluster, PATIENCE, key, node_request, soon};

/// A connection to a member from another address of this host than everybody else's.
async fn from_elsewhere(cluster: &Cluster) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    socket.connect(cluster.members[0].address.parse().unwrap()).await.unwrap()
}

/// Waits until the other side has closed.
async fn closed(stream: &mut TcpStream) {
    while matches!(stream.read(&mut [0; 256]).await, Ok(1..)) {}
}

async fn is_answered(cluster: &Cluster) {
    let mut nodes = cluster.nodes(0);
    soon("an answer to somebody else", nodes.list_nodes(v1::ListNodesRequest::default())).await.unwrap();
}

#[tokio::test]
async fn connections_that_say_nothing_end_soon_and_keep_nobody_out() {
    open_files::raise_limit();
    let limits = entrance::limits(open_files::limit());
    let cluster = Cluster::single().await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..limits.per_address {
        silent.push(from_elsewhere(&cluster).await);
    }

    // When one address has all that it may have, one more from there is turned away at once.
    soon("the refusal", closed(&mut from_elsewhere(&cluster).await)).await;
    is_answered(&cluster).await;

    // Then, without a handshake, all of them are cut off, and there is room again.
    for stream in &mut silent {
        soon("the end of a silent connection", closed(stream)).await;
    }
    assert!(began.elapsed() >= HANDSHAKE, "cut off after {:?}", began.elapsed());
    let again = async {
        let mut stream = from_elsewhere(&cluster).await;
        tokio::time::timeout(HANDSHAKE / 2, closed(&mut stream)).await.is_err()
    };
    assert!(soon("room", again).await, "it was turned away");
}

#[tokio::test]
async fn what_is_no_tls_ends_its_own_connection_only() {
    let cluster = Cluster::single().await;
    for garbage in
        ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}\u{7f}"]
    {
        let mut stream = TcpStream::connect(&cluster.members[0].address).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        soon("its end", closed(&mut stream)).await;
    }
    is_answered(&cluster).await;
}

#[tokio::test]
async fn a_message_or_a_header_that_is_too_large_is_refused_and_others_are_answered() {
    let cluster = Cluster::single().await;
    let long = "x".repeat(300 * 1024);
    let mut request = node_request("n1");
    request.name = long.clone();
    let refused = soon("a refusal", cluster.nodes(0).create_node(request)).await.unwrap_err();
    assert!(refused.message().contains("too large"), "{refused:?}");
    is_answered(&cluster).await;

    let mut headers = Request::new(v1::ListNodesRequest::default());
    headers.metadata_mut().insert("x-long", long[..20 * 1024].parse().unwrap());
    let refused = soon("a refusal", cluster.nodes(0).list_nodes(headers)).await;
    assert!(refused.is_err(), "{refused:?}");
    is_answered(&cluster).await;

    let listed = soon("the nodes", cluster.nodes(0).list_nodes(v1::ListNodesRequest::default())).await;
    assert!(listed.unwrap().into_inner().nodes.is_empty(), "nothing of it was carried out");
}

#[tokio::test]
async fn a_crowd_of_calls_is_answered_or_told_to_wait_and_delays_nobody() {
    let cluster = Cluster::single().await;
    let crowd = NodeServiceClient::new(cluster.channel(0, Role::Administrator, "crowd"));
    let calls = (0..2_000).map(|_| {
        let mut client = crowd.clone();
        tokio::spawn(async move { client.list_nodes(v1::ListNodesRequest::default()).await })
    });
    let calls: Vec<_> = calls.collect();

    let began = Instant::now();
    let request = v1::CreateNodeRequest { request_key: key(), ..node_request("n1") };
    soon("another administrator's change", cluster.nodes(0).create_node(request)).await.unwrap();
    assert!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());

    for call in calls {
        if let Err(status) = soon("the end of a call", call).await.unwrap() {
            assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
            assert!(status.message().contains("calls under way"), "{status:?}");
        }
    }
}

#[tokio::test]
async fn a_session_that_says_nothing_ends_and_others_are_answered_meanwhile() {
    let cluster = Cluster::single().await;
    cluster.create_node("n1").await;
    let mut client = SessionServiceClient::new(cluster.channel(0, Role::Satellite, "n1"));
    let (_silent, queue) = mpsc::channel::<v1::SatelliteMessage>(1);

    // The answer begins at once, for a satellite may wait for it before it says hello.
    let mut session = client.open(ReceiverStream::new(queue)).await.unwrap().into_inner();
    let (end, ()) =
        tokio::join!(soon("the end of a silent session", session.message()), is_answered(&cluster));

    let refused = end.unwrap_err();
    assert!(refused.message().contains("begins with a hello"), "{refused:?}");
}

#[tokio::test]
async fn a_watcher_that_does_not_read_delays_nobody_and_is_told_everything_or_that_it_missed_some() {
    let cluster = Cluster::single().await;
    let mut client = WatchServiceClient::new(cluster.channel(0, Role::Administrator, "deaf"));
    let watched = soon("the watch", client.watch(v1::WatchRequest::default())).await.unwrap();
    for number in 1..=100 {
        cluster.create_node(&format!("n{number}")).await;
    }
    is_answered(&cluster).await;

    let mut watched = watched.into_inner();
    let told = async {
        loop {
            match watched.message().await {
                Ok(Some(message)) if format!("{message:?}").contains("\"n100\"") => return true,
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(status) => {
                    return status.message().contains("compacted")
                        || status.code() == tonic::Code::OutOfRange;
                }
            }
        }
    };
    assert!(soon("the last change", told).await);
}
