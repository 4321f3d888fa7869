//! Whose a client certificate is.

use rustls_pki_types::{CertificateDer, DnsName, ServerName};
use webpki::EndEntityCert;

use crate::id::ClientId;

/// Whether a client with this certificate may call itself `client`: its subject alternative names
/// must hold the client id, letter by letter, as a DNS name. Whether the certificate is trusted
/// has been decided in the handshake.
///
/// A wildcard (`*.example.com`) makes nobody a client, and neither does a name that only differs
/// in case: otherwise one certificate could pass for several clients.
pub(crate) fn certificate_names_client(
    certificate: &CertificateDer<'_>,
    client: &ClientId,
) -> bool {
    let Ok(name) = DnsName::try_from(client.as_str()) else {
        return false;
    };
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return false;
    };
    certificate
        .verify_is_valid_for_subject_name(&ServerName::DnsName(name))
        .is_ok()
        && certificate
            .valid_dns_names()
            .any(|listed| listed == client.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::lab;
    use super::*;

    fn id(name: &str) -> ClientId {
        ClientId::new(name).unwrap()
    }

    #[test]
    fn a_certificate_stands_for_the_names_that_it_lists() {
        let leaf = lab::Authority::new("ca").issue(&["robot-7", "other.example.com"]);
        let certificate = leaf.chain[0].clone();
        for name in ["robot-7", "other.example.com"] {
            assert!(certificate_names_client(&certificate, &id(name)), "{name}");
        }
        for name in [
            "robot-8",
            "Robot-7",
            "robot-7.",
            "example.com",
            "x.other.example.com",
            "127.0.0.1",
            "a b",
        ] {
            assert!(!certificate_names_client(&certificate, &id(name)), "{name}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_nobody() {
        let leaf = lab::Authority::new("ca").issue(&["*.example.com"]);
        for name in ["a.example.com", "*.example.com", "example.com"] {
            assert!(
                !certificate_names_client(&leaf.chain[0], &id(name)),
                "{name}"
            );
        }
    }

    #[test]
    fn an_address_or_junk_stands_for_nobody() {
        let leaf = lab::Authority::new("ca").issue(&["127.0.0.1"]);
        assert!(!certificate_names_client(&leaf.chain[0], &id("127.0.0.1")));
        assert!(!certificate_names_client(
            &CertificateDer::from(vec![1, 2, 3]),
            &id("robot-7")
        ));
    }
}
