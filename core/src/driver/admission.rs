//! Who is let in: the application's say.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};

use super::command::Command;
use super::finding::Finding;
use super::harmless::harmless;
use super::runtime::{Task, tell_panic};
use super::shared::Desk;
use super::slot::{Filler, slot};
use crate::{AdmissionRequest, Refusal, Roots};

/// When a client tries again that was refused because the function panicked: that says nothing of the client.
const AFTER_A_PANIC: Duration = Duration::from_secs(5);

/// Who is let in. A server must say: none of these is the default.
///
/// With each of them, a client that shows a certificate is turned away if that has expired, whatever it resumes, and a
/// client id is bound to something only as its constructor says. There are no lists of revoked certificates (CRLs, OCSP):
/// to revoke one, [ask](Admit::ask), and have the function look at [`AdmissionRequest::certificates`], which it does at every
/// connect.
pub struct Admit(pub(crate) Policy);

pub(crate) enum Policy {
    Open(Option<Roots>),
    MutualTls(Roots),
    Ask(Ask, Option<Roots>),
}

impl Admit {
    /// Everybody, under the client id that they claim. For trusted networks, tests and demos.
    ///
    /// [With roots](Admit::with_client_roots) for clients' certificates, who shows one comes in under an id that it names
    /// as a DNS name, and no other. It keeps nobody from any id, for who shows none is let in as before.
    pub fn open() -> Self {
        Self(Policy::Open(None))
    }

    /// Whoever shows a certificate that these roots have signed and that names the client id as a
    /// DNS name.
    pub fn mutual_tls(roots: Roots) -> Self {
        Self(Policy::MutualTls(roots))
    }

    /// Whom the function lets in, looking at what the client showed.
    ///
    /// **The client id stays a claim of the client unless the function compares it** ([`AdmissionRequest::client`]) with whom the
    /// credentials or the certificate ([`AdmissionRequest::is_named_by_certificate`]) stand for. Without that, whoever has
    /// credentials of their own comes in under any id: handlers find it as [`Context::client_id`](super::Context::client_id),
    /// and what is sent to [`ServerHandle::client`](super::ServerHandle::client) goes to them.
    ///
    /// It runs as a task and may
    /// take its time, at most [`crate::Timeouts::admission`]: it is dropped then, and may be dropped before that when
    /// the client has gone, so that there are never more than twice [`crate::Limits::half_open`] of them, or 64. If it panics,
    /// the client is refused, and tries again after 5 s.
    ///
    /// It is asked each time that a client connects, and a [`Refusal`] without `retry_after` ends the client, with
    /// a session that it may have, for good. Give a time where the fault is not the client's: a database that
    /// cannot be asked now.
    ///
    /// What it returns as `Ok`, a user or whatever else it has found out, is there for handlers
    /// ([`Context::admitted`](super::Context::admitted)) and hooks ([`Peer::admitted`](super::Peer::admitted)) as long as the
    /// session lives, or until the function has let the client in again: what comes over the new link finds what it
    /// returned then. They ask for exactly the type that was returned. Nothing of it is recorded, and it is dropped
    /// by the driver, as [`Hooks`](super::Hooks) are called: that is to be quick. With nothing to tell, return `Ok(())`.
    ///
    /// ```
    /// use trunkline_core::driver::{Admit, Context, Service};
    /// use trunkline_core::{AdmissionRequest, Refusal, Status, StatusCode};
    /// # #[derive(Clone, PartialEq, prost::Message)] struct Erase {}
    /// # impl prost::Name for Erase { const NAME: &'static str = "Erase"; const PACKAGE: &'static str = "disk.v1"; }
    ///
    /// struct User {
    ///     name: &'static str,
    ///     is_admin: bool,
    /// }
    ///
    /// async fn admit(request: AdmissionRequest) -> Result<User, Refusal> {
    ///     let refusal = |reason: &str| Refusal { reason: reason.into(), retry_after: None };
    ///     let user = match &request.credentials[..] {
    ///         b"open sesame" => User { name: "anna", is_admin: false },
    ///         b"open, I said" => User { name: "otto", is_admin: true },
    ///         _ => return Err(refusal("unknown password")),
    ///     };
    ///     // Whose password it is, and no other.
    ///     if user.name != request.client.as_str() {
    ///         return Err(refusal("the password is somebody else's"));
    ///     }
    ///     Ok(user)
    /// }
    ///
    /// async fn erase(context: Context<()>, _: Erase) -> Result<(), Status> {
    ///     if context.admitted::<User>().is_none_or(|user| !user.is_admin) {
    ///         return Err(Status::new(StatusCode::PERMISSION_DENIED, "for administrators alone"));
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let (admission, service) = (Admit::ask(admit), Service::new(()).on(erase));
    /// ```
    pub fn ask<T, F, R>(function: F) -> Self
    where
        T: Send + Sync + 'static,
        F: Fn(AdmissionRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let boxed = move |request| -> Task<Decision> {
            let decision = function(request);
            Box::pin(async move { decision.await.map(Finding::new) })
        };
        Self(Policy::Ask(Ask(Arc::new(boxed)), None))
    }

    /// The same, for clients that may show a certificate that these roots have signed; with mutual TLS, in place of
    /// its own roots. A function that is [asked](Admit::ask) requires one, of that client, with
    /// [`AdmissionRequest::is_named_by_certificate`]. A server that runs is given others by
    /// [`set_client_roots`](super::ServerHandle::set_client_roots).
    pub fn with_client_roots(self, roots: Roots) -> Self {
        Self(match self.0 {
            Policy::Open(_) => Policy::Open(Some(roots)),
            Policy::MutualTls(_) => Policy::MutualTls(roots),
            Policy::Ask(ask, _) => Policy::Ask(ask, Some(roots)),
        })
    }
}

impl fmt::Debug for Admit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Policy::Open(_) => "Admit::open",
            Policy::MutualTls(_) => "Admit::mutual_tls",
            Policy::Ask(..) => "Admit::ask",
        })
    }
}

/// Whether a client is let in.
type Decision = Result<Finding, Refusal>;

/// The application's function that decides.
#[derive(Clone)]
pub(crate) struct Ask(Arc<dyn Fn(AdmissionRequest) -> Task<Decision> + Send + Sync>);

/// Drop it, and the function decides no more.
pub(crate) type Patience = Filler<Infallible>;

impl Ask {
    /// Has the function decide, beside the driver, as long as that is patient.
    pub(crate) fn decide(&self, request: AdmissionRequest, desk: &Arc<Desk>) -> Patience {
        let (link, function, posted_to) = (request.link, self.0.clone(), desk.clone());
        let (patience, impatient) = slot();
        desk.runtime.spawn(Box::pin(async move {
            let mut deciding = Deciding {
                decision: Box::pin(async move { function(request).await }),
                desk: posted_to.clone(),
            };
            let decision = AssertUnwindSafe(async { deciding.decision.as_mut().await });
            let decision = decision.catch_unwind();
            let Either::Left((decision, _)) = select(pin!(decision), impatient).await else {
                return;
            };
            let decision = decision.unwrap_or_else(|panic| {
                tell_panic(&*posted_to.runtime, "an admission function", &*panic);
                Err(Refusal {
                    reason: "the server failed to decide about the admission".into(),
                    retry_after: Some(AFTER_A_PANIC),
                })
            });
            // If the driver has ended, nobody waits for the decision.
            let _ = posted_to.mailbox.post(Command::Decide(link, decision));
        }));
        patience
    }
}

/// A decision that may be given up midway.
struct Deciding {
    decision: Task<Decision>,
    desk: Arc<Desk>,
}

impl Drop for Deciding {
    fn drop(&mut self) {
        let what = "the drop of an admission function";
        harmless(what, Some(&*self.desk.runtime), || {
            self.decision = Box::pin(pending());
        });
    }
}
