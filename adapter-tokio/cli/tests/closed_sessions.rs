//! A server that ends a client's session for good.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
mod support;

use std::time::Duration;

use program::Certificates;
use trunkline_tokio::{
    Admit, Answer, CloseCode, Config, Context, Message, Server, Service, Status,
};

/// It answers nothing, and ends the session of whoever sends something.
async fn server(certificates: &Certificates) -> Server {
    let service = Service::new(()).otherwise(async |context: Context<()>, _: Message| {
        let peer = context.peer();
        peer.close_session(CloseCode(1_000), "the shop is closed")
            .await;
        Ok::<_, Status>(Answer::Ack)
    });
    let mut config = Config::default();
    // So long a session waits for a handler that waits for its end.
    config.timeouts.close = Duration::from_millis(100);
    Server::bind("127.0.0.1:0".parse().expect("an address"))
        .identity_pem_files(certificates.file("cert.pem"), certificates.file("key.pem"))
        .admission(Admit::open())
        .config(config)
        .service(service)
        .await
        .expect("a server")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_ends_and_says_what_was_not_acked() {
    let certificates = Certificates::new(&[]);
    let server = server(&certificates).await;
    let address = server.local_addr().to_string();
    let options = ["hi", "--ack", "--count", "5", "--in-flight", "2"];
    let ended =
        tokio::task::spawn_blocking(move || certificates.client("send", &address, &options).end());
    let ended = ended.await.expect("ended");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let last = ended.notes.lines().last().expect("a line");
    for part in ["the session is over", "the shop is closed", "3 not sent"] {
        assert!(last.contains(part), "{part:?} is missing in {ended:?}");
    }
}
