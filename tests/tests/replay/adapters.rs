//! One line of a builder records, on both adapters.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::time::Instant;

use trunkline_core::tap::Level;
use trunkline_core::trace::{Reader, replay};
use trunkline_testkit::Certificates;

/// What an application of either adapter does, word for word.
macro_rules! application {
    ($name:ident, $adapter:ident) => {
        async fn $name(folder: &Path) {
            use $adapter::{
                Admit, Answer, Client, Message, Recording, Saver, Server, Service, Tag,
            };
            let certificates = Certificates::new().unwrap();
            let service = Service::new(()).otherwise(async |_, _: Message| Ok(Answer::Ack));
            let server = Server::bind("127.0.0.1:0".parse().unwrap())
                .identity(certificates.server)
                .admission(Admit::open())
                .service(service)
                .record(Recording::link(folder.join("server.tlt")))
                .await
                .unwrap();
            let saver = Saver::default();
            let recording = Recording::link(folder.join("client.tlt")).bodies();
            let last = std::time::Duration::from_millis(100);
            let client = |name: &str| {
                Client::connect(server.local_addr().to_string())
                    .server_name("localhost")
                    .roots(certificates.roots.clone())
                    .client_id(name)
            };
            let whole = client("whole").record(recording).await.unwrap();
            let recording = Recording::link(folder.join("last.tlt")).last(last, &saver);
            let late = client("late").record(recording).await.unwrap();
            for number in 0..100_u8 {
                let message = Message::new(Tag::of("test.Said"), vec![number; 1_000]);
                for client in [&whole, &late] {
                    client.send_raw(message.clone()).acked().await.unwrap();
                }
                if number == 0 {
                    saver.save();
                }
            }
            whole.close().await;
            late.close().await;
            server.close().await;
        }
    };
}

application!(on_tokio, trunkline_tokio);
application!(on_smol, trunkline_smol);

fn all_is_recorded(folder: &Path) {
    // The first saving is of a node that was younger than what is kept, or it says that it was not.
    for name in ["server", "client", "last", "last.1"] {
        let path = folder.join(format!("{name}.tlt"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let open = || BufReader::new(File::open(&path).unwrap());
        let reader = Reader::new(open()).unwrap();
        assert_eq!(reader.header().level(), Level::Link, "{name}");
        let from_the_start = reader.header().beginning.first == 1;
        match replay(open(), Instant::now()) {
            Ok(report) => {
                assert!(report.is_identical() && from_the_start, "{name}: {report}");
                assert!(report.records > 10, "{name}: {report}");
            }
            Err(error) => {
                assert!(
                    name.starts_with("last") && !from_the_start,
                    "{name}: {error}"
                );
            }
        }
    }
}

#[test]
fn tokio_records_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(on_tokio(folder.path()));
    all_is_recorded(folder.path());
}

#[test]
fn smol_records_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    smol::block_on(on_smol(folder.path()));
    all_is_recorded(folder.path());
}
