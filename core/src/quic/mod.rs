//! QUIC: the only place that names types of quinn-proto or rustls.

mod carrier;
mod endpoint;
mod reasons;
mod seeded;
mod streams;
mod transport;

pub(crate) use carrier::{Carrier, CarrierEvent};
pub(crate) use endpoint::{Arrived, Endpoint, Keys, MayBegin, TurnedAway};
pub(crate) use quinn_proto::EcnCodepoint;
pub(crate) use quinn_proto::Transmit as QuicTransmit;
pub use seeded::PersistentKeys;
pub use seeded::tls::{Identity, Roots};
pub(crate) use seeded::{ClientCertificates, certificate_names_client};
pub(crate) use streams::Fault;
pub(crate) use transport::receive_window;
