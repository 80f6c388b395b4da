//! A feed believes nobody whom it was not told to believe: a wrong authority, a wrong name, an old certificate and a peer
//! that speaks no TLS are each refused with their reason, and a certificate of the right authority is enough.
#![cfg(target_os = "linux")]

mod live_venue;

use std::sync::Arc;

use chronicle_feed::{
    Venue,
    live::{Counts, Event, FeedError, Options, RawEnd, Tell, Trust, follow},
};
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::Queue;
use futures_util::{SinkExt, StreamExt};
use live_venue::{options, queue_of, scratch, small, trade, wall_ns};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn server(by: &CertifiedIssuer<'static, KeyPair>, name: &str, expired: bool) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    }
    let certificate = params.signed_by(&key, by).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Follows a server until it has said a trade, or nothing more can be expected.
async fn against(acceptor: Option<TlsAcceptor>, mut options: Options) -> (Result<Counts, FeedError>, Vec<Event>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    options.stream = Some(format!("wss://localhost:{port}").parse().unwrap());
    options.channels = vec![chronicle_feed::live::Channel::Trade];
    let serve = async {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let Some(acceptor) = &acceptor else {
                _ = tcp.write_all(b"220 smtp.example.org ESMTP\r\n").await;
                _ = tcp.read(&mut [0; 100]).await;
                continue;
            };
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let mut socket = accept_async(tls).await.unwrap();
            socket.send(Message::Text(trade("XUSDT", 1).into())).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let root = scratch();
    let hot = Queue::publisher(&Linux, queue_of(root.path()), small()).unwrap();
    let mut raw = RawEnd::new(&Linux, hot, &root.path().join("overflow/queue"), small()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let mut events = Vec::new();
    let stopped = async {
        _ = stopped.await;
    };
    let feed = follow(&options, &mut raw, wall_ns, stopped, |told| match told {
        Tell::Event(event) => {
            events.push(event.clone());
            if events.len() >= 3 {
                drop(stop.take());
            }
        }
        Tell::Status(counts) if counts.trades > 0 => drop(stop.take()),
        Tell::Status(_) => {}
    });
    let result = tokio::select! {
        result = feed => result,
        () = serve => unreachable!("it serves for ever"),
        () = tokio::time::sleep(std::time::Duration::from_secs(30)) => panic!("neither trade nor refusal"),
    };
    (result, events)
}

fn believing(authority: Option<&CertifiedIssuer<'static, KeyPair>>) -> Options {
    let mut options = options(Venue::BinanceSpot, &["XUSDT"]);
    let mut trust = Trust::default();
    if let Some(authority) = authority {
        assert_eq!(trust.add_pem(authority.pem().as_bytes()), Ok(1));
    }
    options.trust = trust;
    options
}

#[tokio::test]
async fn a_certificate_of_a_believed_authority_is_enough() {
    let authority = authority("ours");
    let (result, events) = against(Some(server(&authority, "localhost", false)), believing(Some(&authority))).await;
    assert_eq!(result.unwrap().trades, 1, "{events:?}");
}

#[tokio::test]
async fn what_is_not_believed_ends_the_feed_with_its_reason() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    for (acceptor, options, why) in [
        (server(&theirs, "localhost", false), believing(Some(&ours)), "UnknownIssuer"),
        (server(&ours, "localhost", false), believing(None), "UnknownIssuer"),
        (server(&ours, "example.org", false), believing(Some(&ours)), "not valid for name"),
        (server(&ours, "localhost", true), believing(Some(&ours)), "expired"),
    ] {
        let (result, _) = against(Some(acceptor), options).await;
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("localhost:") && error.contains("TLS: ") && error.contains(why), "{error}");
    }
}

/// Not a matter of trust: it may be a proxy that is being restarted. It is tried again.
#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_told_and_tried_again() {
    let (result, events) = against(None, believing(None)).await;
    assert_eq!(result.unwrap().connections, 0);
    for event in &events {
        assert!(matches!(event, Event::ConnectFailed { why, .. } if why.starts_with("TLS: ")), "{event:?}");
    }
}
