//! QUIC: the only place that names types of quinn-proto or rustls.

mod acks;
mod bounded;
mod carrier;
mod connection;
mod copies;
mod elsewhere;
mod endpoint;
mod foreign;
mod given_ids;
mod log;
mod pace;
mod padding;
mod priority;
mod reasons;
mod script;
mod seeded;
mod sign_of_life;
mod streams;
mod told;
mod transport;
mod whereabouts;

pub(crate) use carrier::{Carrier, CarrierEvent, Rest};
pub(crate) use endpoint::{Arrived, Endpoint, Keys, MayBegin, TurnedAway};
#[cfg(feature = "fuzzing")]
pub use foreign::{ForeignCrypto, use_foreign_crypto};
pub(crate) use log::LinkLog;
pub(crate) use quinn_proto::EcnCodepoint;
pub(crate) use quinn_proto::Transmit as QuicTransmit;
pub use script::{Said, ScriptEvent, ScriptStream};
pub use seeded::PersistentKeys;
pub(crate) use seeded::der::certificates;
pub use seeded::tls::{Identity, Roots};
pub(crate) use seeded::{
    ClientCertificates, SignatureLog, SignatureTap, certificate_has_expired,
    certificate_names_client, digest_of_signed,
};
pub(crate) use streams::is_stream_end;
pub(crate) use transport::peer_streams;
