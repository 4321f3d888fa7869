//! What an example needs and a service does not: throwaway certificates, and messages that are
//! written down in Rust. A service of yours has its certificates in files, and has `prost-build`
//! make its messages from a `.proto` (with `enable_type_names`).

use trunkline::{Identity, Roots};

/// What may go wrong.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A certificate for `localhost` that nobody has signed, and whoever trusts it.
pub(crate) fn throwaway_certificate() -> Result<(Identity, Roots), Failure> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), "the server")?;
    Ok((
        identity,
        Roots::from_pem(certificate.as_bytes(), "the roots")?,
    ))
}

/// Messages, in nearly the words of a `.proto`.
macro_rules! messages {
    (package $package:literal; $(message $name:ident { $($kind:ident $field:ident = $tag:literal;)* })*) => { $(
        #[derive(Clone, PartialEq, prost::Message)]
        struct $name {
            $(#[prost($kind, tag = $tag)] $field: messages!(@ $kind),)*
        }
        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = $package;
        }
    )* };
    (@ string) => { String };
    (@ uint64) => { u64 };
}
