//! A certificate authority for development, and what it issues (ECDSA on P-256, X.509).
//!
//! For trying things out, not for production: the authority's key lies where its certificates do,
//! and nothing is ever revoked.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(86_400);
/// How long an authority lasts if what it issues is to last no longer.
const AUTHORITY_DAYS: u32 = 3_650;
/// The longest lifetime that is issued. RFC 5280 §4.1.2.5 has dates up to the year 9999.
pub(crate) const DAYS_MAX: u32 = 36_500;
/// Certificates are valid since a while ago, for the clocks of two machines differ.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The existing authority is none, or its key is another's.
    #[error("the authority cannot be used: {0}")]
    Authority(String),
    /// The authority ends too early.
    #[error(
        "the authority's certificate ends on {ends}, before what it is to issue: ask for fewer days, or make a new authority"
    )]
    AuthorityEnds {
        /// The last day of its certificate.
        ends: String,
    },
    /// A server's name that is neither a DNS name nor an address.
    #[error(
        "'{0}' is neither a DNS name nor an IP address: give names such as localhost or 127.0.0.1"
    )]
    Name(String),
    /// A client's name that is not usable.
    #[error(
        "'{0}' is no name for a client: it must be like a DNS name, at most 64 letters, digits, '-', '_' and '.' \
         and no number at its end, such as alice or sensor-7"
    )]
    ClientName(String),
    /// A lifetime that is not possible.
    #[error("{0} days are not possible: 1 to {DAYS_MAX} are, such as 30")]
    Days(u32),
    /// Anything else.
    #[error("the certificate cannot be made: {0}")]
    Other(#[from] rcgen::Error),
}

/// A certificate and its private key, both as PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    /// One CERTIFICATE block.
    pub(crate) certificate: String,
    /// One PRIVATE KEY block (PKCS#8).
    pub(crate) key: String,
}

/// What signs certificates: its own certificate is the root to trust.
pub(crate) struct Authority {
    own: Issued,
    issuer: Issuer<'static, KeyPair>,
    ends: OffsetDateTime,
}

impl Authority {
    /// A new authority, good for anything that lasts that many days at most.
    pub(crate) fn generate(now: SystemTime, days: u32) -> Result<Self, CertificateError> {
        let mut params = CertificateParams::default();
        // A number of its own, so that the roots of two directories can be told apart.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let number = key
            .public_key_raw()
            .iter()
            .rev()
            .take(4)
            .fold(0_u32, |n, &byte| n << 8 | u32::from(byte));
        params.distinguished_name = named(&format!("Trunkline development CA {number:08x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let ends = lifetime(&mut params, now, checked(days)?.max(AUTHORITY_DAYS) + 1);
        let own = Issued {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        };
        Ok(Self {
            own,
            issuer: Issuer::new(params, key),
            ends,
        })
    }

    /// The authority that was made earlier: its certificate and its key, both as PEM.
    pub(crate) fn load(certificate: &str, key: &str) -> Result<Self, CertificateError> {
        let unusable = |why: &str| CertificateError::Authority(why.to_owned());
        let key_pair =
            KeyPair::from_pem(key).map_err(|_| unusable("its key cannot be read as PEM"))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
            .map_err(|_| unusable("its certificate cannot be read as PEM"))?;
        let parsed = pem
            .parse_x509()
            .map_err(|_| unusable("its certificate cannot be read as X.509"))?;
        if !parsed.is_ca() {
            return Err(unusable("its certificate is not that of an authority"));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key_pair.public_key_raw() {
            return Err(unusable("its key does not belong to its certificate"));
        }
        let ends = parsed.validity().not_after.to_datetime();
        let own = Issued {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let issuer = Issuer::from_ca_cert_pem(certificate, key_pair)
            .map_err(|_| unusable("its certificate holds what cannot be copied"))?;
        Ok(Self { own, issuer, ends })
    }

    /// Its own certificate, the root to trust, and the key that must stay secret.
    pub(crate) fn own(&self) -> &Issued {
        &self.own
    }

    /// A certificate for a server that is found under these names and addresses.
    pub(crate) fn server(
        &self,
        names: &[String],
        now: SystemTime,
        days: u32,
    ) -> Result<Issued, CertificateError> {
        for name in names {
            if name.parse::<IpAddr>().is_err() && !is_dns_name(name) {
                return Err(CertificateError::Name(name.clone()));
            }
        }
        let first = names
            .first()
            .ok_or_else(|| CertificateError::Name(String::new()))?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(first);
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth, now, days)
    }

    /// A certificate that lets a client be known by that name: it is both the common name and a
    /// DNS name of the certificate.
    pub(crate) fn client(
        &self,
        name: &str,
        now: SystemTime,
        days: u32,
    ) -> Result<Issued, CertificateError> {
        check_client_name(name)?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = named(name);
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth, now, days)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
        now: SystemTime,
        days: u32,
    ) -> Result<Issued, CertificateError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        if lifetime(&mut params, now, checked(days)?) > self.ends {
            return Err(CertificateError::AuthorityEnds {
                ends: self.ends.date().to_string(),
            });
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Whether a client can be called that: a server reads the name as a DNS name of the certificate
/// (`PROTOCOL.md`, section 6.3), and it becomes part of a file's name.
pub(crate) fn check_client_name(name: &str) -> Result<(), CertificateError> {
    if name.len() <= 64 && !name.starts_with('*') && is_dns_name(name) {
        Ok(())
    } else {
        Err(CertificateError::ClientName(name.to_owned()))
    }
}

/// RFC 1034 §3.5 with the underscores that people use, and a wildcard in front.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = name.strip_prefix("*.").unwrap_or(name);
    // A number at the end makes it an address, or a mistyped one.
    let number_last = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 250 && !number_last && name.split('.').all(label)
}

fn checked(days: u32) -> Result<u32, CertificateError> {
    if (1..=DAYS_MAX).contains(&days) {
        Ok(days)
    } else {
        Err(CertificateError::Days(days))
    }
}

/// Sets from when to when, and says when it ends.
fn lifetime(params: &mut CertificateParams, now: SystemTime, days: u32) -> OffsetDateTime {
    params.not_before = OffsetDateTime::from(now) - BACKDATED;
    params.not_after = OffsetDateTime::from(now) + DAY * days;
    params.not_after
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut distinguished_name = rcgen::DistinguishedName::new();
    // RFC 5280 appendix A.1: a common name has at most 64 characters.
    distinguished_name.push(
        DnType::CommonName,
        name.chars().take(64).collect::<String>(),
    );
    distinguished_name
}

#[cfg(test)]
mod tests;
