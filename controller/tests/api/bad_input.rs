//! Bad input at every door: refused with the field and the reason, and nothing changes.

use std::time::SystemTime;

use hawser_process::tls::{Authority, Identity, Role};
use hawser_proto::v1::{
    self, arbiter_service_client::ArbiterServiceClient, node_service_client::NodeServiceClient,
    resource_group_service_client::ResourceGroupServiceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    cluster::{CLUSTER, Cluster, key, node_request, pool_request, soon},
    lifecycle::{create_request, two_nodes},
    satellite::{hello, open},
};

fn revision(cluster: &Cluster) -> u64 {
    cluster.members[0].controller.as_ref().unwrap().consensus.view().revision()
}

pub(crate) fn field(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .bad_request()
        .and_then(|bad| bad.field_violations.first().cloned())
        .map_or_else(String::new, |bad| bad.field)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_resource_is_refused_by_its_field() {
    let cluster = Cluster::single().await;
    let _satellites = two_nodes(&cluster).await;
    type Spoil = fn(&mut v1::CreateResourceRequest);
    let table: [(&str, Spoil, Code, &str); 13] = [
        ("no key", |request| request.request_key.clear(), Code::InvalidArgument, "request_key"),
        ("no name", |request| request.name.clear(), Code::InvalidArgument, "name"),
        ("characters", |request| request.name = "Data/1".into(), Code::InvalidArgument, "name"),
        ("too long", |request| request.name = "a".repeat(64), Code::InvalidArgument, "name"),
        ("no volume", |request| request.volume_sizes.clear(), Code::InvalidArgument, "volume_sizes"),
        ("size 0", |request| request.volume_sizes = vec![0], Code::InvalidArgument, "volume_sizes[0]"),
        (
            "size 2^63",
            |request| request.volume_sizes = vec![1 << 63],
            Code::InvalidArgument,
            "volume_sizes[0]",
        ),
        ("no such group", |request| request.group = "gold".into(), Code::NotFound, "group"),
        (
            "no such node",
            |request| request.nodes = vec!["n1".into(), "n9".into()],
            Code::NotFound,
            "nodes[1]",
        ),
        (
            "a node twice",
            |request| request.nodes = vec!["n1".into(), "n1".into()],
            Code::InvalidArgument,
            "nodes[1]",
        ),
        ("more replicas than nodes", |request| request.replicas = 3, Code::ResourceExhausted, ""),
        (
            "larger than the pools",
            |request| request.volume_sizes = vec![8 << 40],
            Code::ResourceExhausted,
            "",
        ),
        (
            "two volumes on 8.4",
            |request| request.volume_sizes = vec![1 << 30, 1 << 30],
            Code::ResourceExhausted,
            "",
        ),
    ];
    for (what, spoil, code, named) in table {
        let mut request = create_request("data");
        spoil(&mut request);
        let status = cluster.resources(0).create_resource(request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (code, named), "{what}: {status:?}");
        assert!(!status.message().is_empty());
    }
    let state = cluster.members[0].controller.as_ref().unwrap().consensus.view().state();
    assert_eq!(state.resources().count(), 0);
    assert!(state.pools().all(|pool| pool.promised_bytes == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_placement_names_every_node_and_why() {
    let cluster = Cluster::single().await;
    let _satellites = two_nodes(&cluster).await;
    cluster.create_node("n3").await;
    let request = v1::CreateResourceRequest { replicas: 3, ..create_request("data") };
    let status = cluster.resources(0).create_resource(request).await.unwrap_err();
    for node in ["n1", "n2", "n3"] {
        assert!(status.message().contains(node), "{node}: {}", status.message());
    }
    assert!(status.message().contains("8.4"), "three replicas on 8.4: {}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_objects_are_refused_and_nothing_is_written() {
    let cluster = Cluster::single().await;
    cluster.create_node("n1").await;
    let before = revision(&cluster);

    let address = |name: &str, ip: &str| v1::Address { name: name.into(), ip: ip.into() };
    let nodes = [
        ("Node 1", vec![address("default", "10.0.0.1")], "name"),
        ("n2", vec![], "addresses"),
        ("n2", vec![address("default", "10.0.0.256")], "addresses[0].ip"),
        ("n2", vec![address("default", "0.0.0.0")], "addresses[0].ip"),
        ("n2", vec![address("default", "10.0.0.1"), address("default", "10.0.0.2")], "addresses[1].name"),
    ];
    for (name, addresses, named) in nodes {
        let request =
            v1::CreateNodeRequest { request_key: key(), name: name.into(), addresses, ..Default::default() };
        let status = cluster.nodes(0).create_node(request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, named), "{status:?}");
    }

    let no_provider = v1::CreatePoolRequest { provider: None, ..pool_request("n1", "vg") };
    let pools = [
        (no_provider, "provider"),
        (pool_request("n1", "v g"), "lvm_thin.volume_group"),
        (pool_request("N1", "vg"), "node"),
        (
            v1::CreatePoolRequest { overcommit_percent: u32::MAX, ..pool_request("n1", "vg") },
            "overcommit_percent",
        ),
    ];
    for (request, named) in pools {
        let status = cluster.pools(0).create_pool(request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, named), "{status:?}");
    }

    let mut groups = ResourceGroupServiceClient::new(cluster.administrator(0));
    let net = [("cram-hmac-alg".to_owned(), "sha1; }".to_owned())];
    let options = v1::DrbdOptions { net: net.into(), ..Default::default() };
    let request = v1::CreateResourceGroupRequest {
        request_key: key(),
        name: "gold".into(),
        replicas: 2,
        options: Some(options),
        ..Default::default()
    };
    let status = groups.create_resource_group(request).await.unwrap_err();
    assert_eq!(
        (status.code(), field(&status).as_str()),
        (Code::InvalidArgument, "options.net.cram-hmac-alg")
    );

    let attachment = v1::CreateAttachmentRequest {
        request_key: key(),
        resource: "data".into(),
        node: "n1".into(),
        mode: 99,
    };
    let status = cluster.attachments(0).create_attachment(attachment).await.unwrap_err();
    assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, "mode"));

    let list = v1::ListNodesRequest {
        page: Some(v1::PageRequest { size: 501, token: String::new() }),
        ..Default::default()
    };
    let status = cluster.nodes(0).list_nodes(list).await.unwrap_err();
    assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, "page.size"));

    assert_eq!(revision(&cluster), before, "nothing was proposed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_is_there_twice_is_said() {
    let cluster = Cluster::single().await;
    cluster.create_node("n1").await;

    assert_eq!(
        cluster.nodes(0).create_node(node_request("n1")).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    let unknown = v1::DeleteNodeRequest { request_key: key(), name: "n9".into() };
    assert_eq!(cluster.nodes(0).delete_node(unknown).await.unwrap_err().code(), Code::NotFound);
    let status = cluster.pools(0).create_pool(pool_request("n9", "vg")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let delete = v1::DeleteResourceRequest { request_key: key(), name: "data".into() };
    assert_eq!(cluster.resources(0).delete_resource(delete).await.unwrap_err().code(), Code::NotFound);
    let attach = v1::CreateAttachmentRequest {
        request_key: key(),
        resource: "data".into(),
        node: "n1".into(),
        mode: 0,
    };
    assert_eq!(cluster.attachments(0).create_attachment(attach).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_satellite_speaks_for_its_own_registered_node_only() {
    let cluster = Cluster::single().await;
    cluster.create_node("n1").await;
    let before = revision(&cluster);

    let n1 = || cluster.channel(0, Role::Satellite, "n1");
    let other = soon("the refusal", open(n1(), hello("n2"))).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    assert!(
        other.message().contains("node n1") && other.message().contains("node n2"),
        "{}",
        other.message()
    );

    let foreign = v1::Hello { cluster_id: "another".into(), ..hello("n1") };
    let foreign = soon("the refusal", open(n1(), foreign)).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);

    let stranger = cluster.channel(0, Role::Satellite, "n7");
    let stranger = soon("the refusal", open(stranger, hello("n7"))).await.unwrap_err();
    assert_eq!(stranger.code(), Code::NotFound);
    assert!(stranger.message().contains("hawser node create n7"), "{}", stranger.message());

    let ahead = v1::Hello { lineage: 1, revision: 1_000_000, ..hello("n1") };
    let ahead = soon("the refusal", open(n1(), ahead)).await.unwrap_err();
    assert_eq!(ahead.code(), Code::FailedPrecondition);

    let mut arbiter = ArbiterServiceClient::new(n1());
    let request = v1::OutdateRequest {
        node: "n2".into(),
        resource: "data".into(),
        resource_incarnation: 1,
        peer: "n1".into(),
        generation: 1,
        request_key: key(),
        lineage: 1,
    };
    let status = arbiter.outdate(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "WRONG_NODE");
    assert_eq!(revision(&cluster), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_reach_nothing() {
    let cluster = Cluster::single().await;
    let list = v1::ListNodesRequest::default();

    for (role, name) in [(Role::Satellite, "n1"), (Role::Controller, "c1")] {
        let mut nodes = NodeServiceClient::new(cluster.channel(0, role, name));
        let status = nodes.list_nodes(list.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{role}");
        assert!(status.message().contains("it is for the role administrator"), "{}", status.message());
    }
    let administrator = soon("the refusal", open(cluster.administrator(0), hello("n1"))).await.unwrap_err();
    assert_eq!(administrator.code(), Code::PermissionDenied);

    // Another cluster's authority, even with this cluster's id in the name: TLS ends before any call.
    let impostor = Authority::generate(CLUSTER, SystemTime::now()).unwrap();
    let directory = cluster.sign(&impostor, Role::Administrator, "root");
    let identity = Identity::load(&directory).unwrap();
    let trusting = cluster.identity(Role::Administrator, "root");
    for tls in [identity.client_tls(), trusting.client_tls().identity(tonic_identity(&directory))] {
        let channel = cluster.endpoint(0).tls_config(tls).unwrap().connect_lazy();
        assert!(NodeServiceClient::new(channel).list_nodes(list.clone()).await.is_err());
    }
    // No certificate at all, and no TLS at all.
    let without = tonic::transport::ClientTlsConfig::new()
        .domain_name("controller")
        .ca_certificate(tonic::transport::Certificate::from_pem(authority_of(&cluster)));
    let channel = cluster.endpoint(0).tls_config(without).unwrap().connect_lazy();
    assert!(NodeServiceClient::new(channel).list_nodes(list.clone()).await.is_err());
    let plain = format!("http://{}", cluster.members[0].address);
    let channel = tonic::transport::Endpoint::from_shared(plain).unwrap().connect_lazy();
    assert!(NodeServiceClient::new(channel).list_nodes(list).await.is_err());
}

fn tonic_identity(directory: &std::path::Path) -> tonic::transport::Identity {
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    tonic::transport::Identity::from_pem(read("tls.crt"), read("tls.key"))
}

fn authority_of(cluster: &Cluster) -> Vec<u8> {
    let directory = cluster.sign(&cluster.authority, Role::Administrator, "root");
    std::fs::read(directory.join("ca.crt")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_ends_that_connection_only() {
    let cluster = Cluster::single().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0x16, 3, 1, 0xff, 0xff]] {
        let mut connection = TcpStream::connect(&cluster.members[0].address).await.unwrap();
        connection.write_all(garbage).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The peer may reset the connection; it must not keep it.
        let _ = soon("the end of the connection", connection.read_to_end(&mut answer)).await;
    }
    cluster.create_node("n1").await;
}
