//! Certificates as a verifier reads them.

use x509_parser::prelude::{GeneralName, ParsedExtension};

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * 20_000
}

fn names(certificate: &str) -> Vec<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).expect("PEM");
    let parsed = pem.parse_x509().expect("X.509");
    let Some(names) = parsed.subject_alternative_name().expect("parsed") else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(bytes) => format!("{} bytes", bytes.len()),
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

/// Checks what a verifier would: the signature, the use, the time.
fn verify(authority: &Authority, issued: &Issued, server: bool, days: u32) {
    let (_, root) =
        x509_parser::pem::parse_x509_pem(authority.own().certificate.as_bytes()).expect("PEM");
    let (_, leaf) = x509_parser::pem::parse_x509_pem(issued.certificate.as_bytes()).expect("PEM");
    let (root, leaf) = (
        root.parse_x509().expect("X.509"),
        leaf.parse_x509().expect("X.509"),
    );
    assert_eq!(leaf.issuer(), root.subject());
    assert!(!leaf.is_ca() && root.is_ca());
    let key = KeyPair::from_pem(&issued.key).expect("a key");
    assert_eq!(
        leaf.public_key().subject_public_key.data.as_ref(),
        key.public_key_raw()
    );
    let usage = leaf
        .extended_key_usage()
        .expect("parsed")
        .expect("present")
        .value;
    assert_eq!((usage.server_auth, usage.client_auth), (server, !server));
    let identifier =
        leaf.iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                    identifier.key_identifier.as_ref()
                }
                _ => None,
            });
    let own = root
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier),
            _ => None,
        });
    assert!(own.is_some() && identifier == own);
    let ends = OffsetDateTime::from(now()) + DAY * days;
    assert_eq!(leaf.validity().not_after.to_datetime(), ends);
    assert!(leaf.validity().not_before.to_datetime() < OffsetDateTime::from(now()));
}

#[test]
fn a_server_certificate_holds_its_names_and_is_signed_by_the_authority() {
    let authority = Authority::generate(now(), 30).expect("an authority");
    let asked = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let issued = authority.server(&asked, now(), 30).expect("a certificate");
    assert_eq!(
        names(&issued.certificate),
        ["localhost", "4 bytes", "16 bytes"]
    );
    verify(&authority, &issued, true, 30);
}

#[test]
fn a_client_certificate_holds_its_name() {
    let authority = Authority::generate(now(), 7).expect("an authority");
    let issued = authority.client("alice", now(), 7).expect("a certificate");
    assert_eq!(names(&issued.certificate), ["alice"]);
    verify(&authority, &issued, false, 7);
}

#[test]
fn a_loaded_authority_goes_on_issuing() {
    let made = Authority::generate(now(), 30).expect("an authority");
    let loaded = Authority::load(&made.own().certificate, &made.own().key).expect("the same");
    let issued = loaded.client("bob", now(), 30).expect("a certificate");
    verify(&made, &issued, false, 30);
}

#[test]
fn an_authority_that_is_none_is_refused() {
    let authority = Authority::generate(now(), 30).expect("an authority");
    let other = Authority::generate(now(), 30).expect("an authority");
    let leaf = authority.client("eve", now(), 30).expect("a certificate");
    for (certificate, key, why) in [
        (
            authority.own().certificate.as_str(),
            other.own().key.as_str(),
            "does not belong",
        ),
        (&leaf.certificate, &leaf.key, "not that of an authority"),
        ("junk", &leaf.key, "certificate cannot be read"),
        (&leaf.certificate, "junk", "key cannot be read"),
    ] {
        let said = Authority::load(certificate, key)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(said.contains(why), "{said:?} does not say {why:?}");
    }
}

#[test]
fn nothing_outlives_its_authority() {
    let authority = Authority::generate(now(), 30).expect("an authority");
    let later = now() + DAY * AUTHORITY_DAYS;
    assert!(authority.client("late", later, 1).is_ok());
    assert!(matches!(
        authority.client("late", later, 2),
        Err(CertificateError::AuthorityEnds { .. })
    ));
}

#[test]
fn names_and_lifetimes_are_checked() {
    let authority = Authority::generate(now(), 30).expect("an authority");
    for bad in [
        "",
        "-a",
        "a b",
        "a..b",
        "1.2.3",
        "1.2.3.4.5",
        "a.7",
        "a/b",
        "ä",
    ] {
        let said = authority.server(&[bad.to_owned()], now(), 30);
        assert!(
            matches!(said, Err(CertificateError::Name(_))),
            "{bad:?} passed"
        );
    }
    for bad in [
        "",
        "../up",
        "a/b",
        ".hidden",
        "a b",
        "a.",
        "*",
        "*.a",
        "10.0.0.7",
        "sensor.7",
        &"x".repeat(65),
    ] {
        assert!(
            matches!(
                authority.client(bad, now(), 30),
                Err(CertificateError::ClientName(_))
            ),
            "{bad:?} passed"
        );
    }
    for good in ["alice", "sensor-7", "a_b.c", "7up"] {
        assert!(
            authority.client(good, now(), 30).is_ok(),
            "{good:?} was refused"
        );
    }
    for bad in [0, DAYS_MAX + 1] {
        assert!(
            matches!(
                authority.client("a", now(), bad),
                Err(CertificateError::Days(_))
            ),
            "{bad} passed"
        );
    }
    assert!(
        authority
            .server(&["*.example.org".to_owned()], now(), DAYS_MAX)
            .is_err(),
        "outlives the authority"
    );
}
