//! What cannot be done is one clear line, and a status that says whose fault it was.

#![allow(clippy::expect_used, clippy::panic)]

#[path = "support/program.rs"]
mod program;
mod support;

use std::fs;
use std::net::UdpSocket;

use program::Certificates;
use support::{assert_one_line, run};

/// A server that cannot start with these certificate and key files.
fn serve(certificate: &str, key: &str, more: &[&str]) -> std::process::Output {
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--cert",
        certificate,
        "--key",
        key,
    ];
    run(&[&arguments, more].concat())
}

const OPEN: [&str; 2] = ["--admission", "open"];

#[test]
fn admission_is_never_open_by_accident() {
    let certificates = Certificates::new(&[]);
    let directory = certificates.directory();
    assert_one_line(
        &run(&["serve", "--dev", directory]),
        2,
        &["--admission <ADMISSION>", "trunkline serve --help"],
    );
    assert_one_line(
        &run(&["serve", "--admission", "open"]),
        2,
        &["--cert <FILE>|--dev <DIR>"],
    );
    let serve = |more: &[&str]| {
        let (certificate, key) = (certificates.file("cert.pem"), certificates.file("key.pem"));
        serve(&certificate, &key, more)
    };
    assert_one_line(
        &serve(&["--admission", "ajar"]),
        2,
        &["'ajar'", "mutual-tls"],
    );
    assert_one_line(
        &serve(&["--admission", "mutual-tls"]),
        2,
        &["needs --client-ca"],
    );
    assert_one_line(
        &serve(&["--admission", "open", "--client-ca", "ca.pem"]),
        2,
        &["--client-ca is for --admission mutual-tls"],
    );
}

#[test]
fn an_address_in_use_is_one_line() {
    let certificates = Certificates::new(&[]);
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = taken.local_addr().expect("an address").to_string();
    let directory = certificates.directory();
    let output = run(&[
        "serve",
        "--listen",
        &address,
        "--dev",
        directory,
        "--admission",
        "open",
    ]);
    assert_one_line(&output, 1, &[&address, "in use", "another port"]);
}

#[test]
fn a_directory_that_lacks_a_file_is_one_line_that_names_it() {
    let serve = |directory: &str| run(&["serve", "--dev", directory, "--admission", "open"]);
    for (there, missing) in [("cert.pem", "key.pem"), ("key.pem", "cert.pem")] {
        let certificates = Certificates::new(&[]);
        let directory = certificates.directory();
        fs::remove_file(certificates.file(missing)).expect("removed");
        assert_one_line(
            &serve(directory),
            2,
            &[
                directory,
                &format!("there is {there}, but no {missing}"),
                "trunkline cert --out",
            ],
        );
        fs::remove_file(certificates.file(there)).expect("removed");
        assert_one_line(&serve(directory), 2, &["no cert.pem"]);
        // As it advises.
        let made = run(&["cert", "--out", directory]);
        assert!(made.status.success(), "{made:?}");
    }

    let certificates = Certificates::new(&["anna"]);
    fs::remove_file(certificates.file("client-anna.key")).expect("removed");
    let asked = [
        "clients",
        "localhost:4433",
        "--dev",
        certificates.directory(),
    ];
    assert_one_line(
        &run(&[&asked[..], &["--client-id", "anna"]].concat()),
        2,
        &["client-anna.pem, but no client-anna.key", "--client anna"],
    );
    fs::remove_file(certificates.file("ca.pem")).expect("removed");
    assert_one_line(&run(&asked), 2, &["no ca.pem"]);
}

#[test]
fn certificates_that_cannot_be_used_are_one_line() {
    let certificates = Certificates::new(&[]);
    let (certificate, key) = (certificates.file("cert.pem"), certificates.file("key.pem"));
    assert_one_line(
        &serve("no/such.pem", &key, &OPEN),
        2,
        &["no/such.pem", "cannot be read"],
    );
    assert_one_line(
        &serve(&certificate, "no/such.key", &OPEN),
        2,
        &["no/such.key"],
    );
    assert_one_line(
        &serve(&certificate, &certificates.file("ca.key"), &OPEN),
        2,
        &["the private key does not belong to the certificate"],
    );
    let junk = certificates.file("junk.pem");
    fs::write(&junk, "junk").expect("written");
    assert_one_line(
        &serve(&junk, &key, &OPEN),
        2,
        &["junk.pem", "no certificate"],
    );
    // Which of the two is meant is said.
    let output = serve(&certificate, &certificate, &OPEN);
    assert_one_line(
        &output,
        2,
        &["trunkline: ", "cert.pem holds no private key"],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("cert.pem").count(), 1, "{said}");
    let cut_off = certificates.file("cut-off.pem");
    let whole = fs::read(&certificate).expect("readable");
    fs::write(&cut_off, &whole[..100]).expect("written");
    assert_one_line(
        &serve(&cut_off, &key, &OPEN),
        2,
        &["cut-off.pem", "no END line"],
    );
    assert_one_line(
        &run(&["serve", "--dev", "no/such/directory", "--admission", "open"]),
        2,
        &["no/such/directory", "trunkline cert --out"],
    );
    let (expired, its_key) = expired(&certificates);
    assert_one_line(
        &serve(&expired, &its_key, &OPEN),
        2,
        &["expired.pem", "has expired"],
    );
    // A server's keys are no private key.
    assert_one_line(
        &serve(&certificate, &key, &[&OPEN[..], &["--keys", &key]].concat()),
        2,
        &["key.pem", "64", "another path"],
    );
    let mutual = ["--admission", "mutual-tls", "--client-ca", &junk];
    assert_one_line(
        &serve(&certificate, &key, &mutual),
        2,
        &["junk.pem", "no certificate"],
    );
}

/// A certificate of last year, with its key.
fn expired(certificates: &Certificates) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    let files = (
        certificates.file("expired.pem"),
        certificates.file("expired.key"),
    );
    fs::write(&files.0, certificate.pem()).expect("written");
    fs::write(&files.1, key.serialize_pem()).expect("written");
    files
}

/// The last line of a client that fails: what came before tells what was tried.
#[track_caller]
fn assert_refused(certificates: &Certificates, server: &str, options: &[&str], parts: &[&str]) {
    let ended = certificates.client("request", server, options).end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let last = ended.notes.lines().last().expect("a line");
    for part in parts {
        assert!(last.contains(part), "{part:?} is missing in {ended:?}");
    }
    assert!(ended.results.is_empty(), "{ended:?}");
}

#[test]
fn a_server_of_an_unknown_authority_is_not_talked_to() {
    let (ours, theirs) = (Certificates::new(&[]), Certificates::new(&[]));
    let (_server, address) = theirs.server(&[]);
    assert_refused(
        &ours,
        &address,
        &["hi", "--count", "1"],
        &["not connected", "certificate not accepted", "--ca"],
    );
    assert_refused(
        &theirs,
        &address,
        &["hi", "--count", "1", "--server-name", "other.test"],
        &["not connected", "certificate not accepted", "--server-name"],
    );
}

#[test]
fn a_server_that_is_not_there_is_dialled_for_a_time_that_is_told() {
    let certificates = Certificates::new(&[]);
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = nobody.local_addr().expect("an address").to_string();
    let options = ["hi", "--count", "1", "--connect-timeout", "300ms"];
    let ended = certificates.client("request", &address, &options).end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let lines: Vec<_> = ended.notes.lines().collect();
    assert_eq!(lines.len(), 2, "{ended:?}");
    assert!(
        lines[0].contains(&format!("connecting to {address} as cli-")),
        "{ended:?}"
    );
    assert!(lines[1].contains("within 0.30 s") && lines[1].contains("--connect-timeout"));
}

#[test]
fn a_client_that_gives_up_names_the_reason_that_it_knows() {
    let (ours, theirs) = (Certificates::new(&[]), Certificates::new(&[]));
    let (_server, address) = theirs.server(&[]);
    // The first dial fails at once; the third, of a denial for good, would follow after a second and a half at least.
    assert_refused(
        &ours,
        &address,
        &["hi", "--count", "1", "--connect-timeout", "1200ms"],
        &["not connected", "within 1.20 s", "certificate not accepted"],
    );
}

#[test]
fn a_host_that_does_not_exist_is_one_line() {
    let certificates = Certificates::new(&[]);
    // No name server has to be asked about that.
    assert_refused(
        &certificates,
        "no..such:4433",
        &["hi"],
        &["no..such:4433 was not found"],
    );
}

#[test]
fn bad_options_of_clients_are_one_line() {
    let certificates = Certificates::new(&["anna"]);
    let client = |command: &str, more: &[&str]| {
        let arguments = [
            &[command, "localhost:4433", "--dev", certificates.directory()],
            more,
        ];
        run(&arguments.concat())
    };
    assert_one_line(
        &run(&["request", "localhost:4433", "hi"]),
        2,
        &["--ca <FILE>", "--dev <DIR>"],
    );
    assert_one_line(
        &run(&["request", "localhost", "hi"]),
        2,
        &["port is missing"],
    );
    assert_one_line(&client("request", &[]), 2, &["<TEXT>"]);
    assert_one_line(
        &client("request", &["hi", "--rate", "fast"]),
        2,
        &["--rate", "100/s"],
    );
    assert_one_line(
        &client("request", &["hi", "--in-flight", "0"]),
        2,
        &["--in-flight", "0"],
    );
    assert_one_line(
        &client("request", &["hi", "--size", "1b"]),
        2,
        &["--size 1b", "2 bytes"],
    );
    assert_one_line(
        &client("request", &["hi", "--size", "2mb"]),
        2,
        &["2000000", "1000000"],
    );
    assert_one_line(&client("send", &["hi", "--stdin"]), 2, &["--stdin"]);
    assert_one_line(
        &client("send", &["hi", "--to-all", "--to-group", "lobby"]),
        2,
        &["--to-all", "--to-group"],
    );
    assert_one_line(
        &client("listen", &["--group", ""]),
        2,
        &["--group", "group name"],
    );
    assert_one_line(
        &client("clients", &["--client-id", ""]),
        2,
        &["--client-id", "client id"],
    );
    assert_one_line(
        &run(&["clients", "localhost:4433", "--dev", "no/such"]),
        2,
        &["no/such", "trunkline cert --out"],
    );
    assert_one_line(
        &run(&["clients", "localhost:4433", "--ca", "no/such.pem"]),
        2,
        &["no/such.pem", "cannot be read"],
    );
    assert_one_line(
        &client("clients", &["--heartbeat", "1ms"]),
        2,
        &["--heartbeat is 1ms", "100 ms"],
    );
    assert_one_line(
        &client("clients", &["--redial-cap", "1us"]),
        2,
        &["--redial-cap is 1µs", "1 ms"],
    );
}
