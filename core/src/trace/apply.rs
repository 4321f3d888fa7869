//! The calls of a trace, made again.

use std::time::Instant;

use crate::error::{ConfigError, Status, TlsError};
use crate::id::{ClientId, GroupName, InvalidName};
use crate::message::Message;
use crate::node::{Audience, Datagram, Dial, DrainPlan, Ecn, Input, Node, Refusal};
use crate::quic::{Identity, Roots, certificates};
use crate::tap::{Call, Letter};

/// Gives the node an input or a command. Whether the node refused it is not compared here: it shows
/// in what comes after. Says why the call cannot have been made as it was recorded.
pub(super) fn apply(node: &mut Node, now: Instant, call: &Call<'_>) -> Option<String> {
    let message = |letter: &Letter<'_>| Message {
        lane: letter.lane,
        tag: letter.tag,
        body: letter.body.to_bytes(),
    };
    let unusable = |error: InvalidName| Some(error.to_string());
    match *call {
        Call::Datagram {
            remote,
            local_ip,
            ecn,
            data,
        } => {
            let datagram = Datagram {
                remote,
                local_ip,
                ecn: ecn.and_then(Ecn::from_bits),
                data: data.into(),
            };
            node.handle_input(now, Input::Datagram(datagram));
        }
        Call::Timeout => node.handle_input(now, Input::Timeout),
        Call::Connect {
            address,
            server_name,
            client,
            credentials,
            agent,
        } => {
            let client = match ClientId::new(client) {
                Ok(client) => client,
                Err(error) => return unusable(error),
            };
            let dial = Dial {
                address,
                server_name: server_name.into(),
                client,
                credentials: credentials.to_bytes(),
                agent: agent.into(),
            };
            node.connect(now, dial).ok();
        }
        Call::Redirect { session, address } => {
            node.redirect(now, session, address).ok();
        }
        Call::AddAddress { session, address } => {
            node.add_address(now, session, address).ok();
        }
        Call::ForgetAddresses { session } => {
            node.forget_addresses(now, session).ok();
        }
        Call::SetCredentials {
            session,
            credentials,
        } => {
            node.set_credentials(now, session, credentials.to_bytes())
                .ok();
        }
        Call::SetWall { wall } => node.set_wall(now, wall),
        Call::SetServerIdentity { chain } => {
            return changed(identity(chain), |to| node.set_server_identity(now, to));
        }
        Call::SetClientIdentity { chain } => {
            return changed(identity(chain), |to| node.set_client_identity(now, to));
        }
        Call::SetClientRoots { certificates } => {
            return changed(roots(certificates), |to| node.set_client_roots(now, to));
        }
        Call::SetServerRoots { certificates } => {
            return changed(roots(certificates), |to| node.set_server_roots(now, to));
        }
        Call::Join { session, group } => match GroupName::new(group) {
            Ok(group) => {
                node.join(now, session, &group).ok();
            }
            Err(error) => return unusable(error),
        },
        Call::Leave { session, group } => match GroupName::new(group) {
            Ok(group) => {
                node.leave(now, session, &group);
            }
            Err(error) => return unusable(error),
        },
        Call::Close {
            session,
            code,
            reason,
        } => {
            node.close(now, session, code, reason).ok();
        }
        Call::Drain {
            deadline,
            retry_after,
            alternative,
        } => {
            let plan = DrainPlan {
                deadline,
                retry_after,
                alternative: alternative.map(str::to_owned),
            };
            node.drain(now, plan).ok();
        }
        Call::Admit { link } => {
            node.admit(now, link).ok();
        }
        Call::Refuse {
            link,
            reason,
            retry_after,
        } => {
            let refusal = Refusal {
                reason: reason.into(),
                retry_after,
            };
            node.refuse(now, link, refusal).ok();
        }
        Call::Send {
            to,
            message: letter,
        } => {
            node.send(now, to, message(&letter)).ok();
        }
        Call::SendAcked {
            to,
            message: letter,
            timeout,
        } => {
            node.send_acked(now, to, message(&letter), timeout).ok();
        }
        Call::Request {
            to,
            message: letter,
            timeout,
        } => {
            node.request(now, to, message(&letter), timeout).ok();
        }
        Call::SendBestEffort {
            to,
            message: letter,
            key,
        } => {
            node.send_best_effort(now, to, message(&letter), key).ok();
        }
        Call::Broadcast {
            group,
            message: letter,
            key,
        } => {
            let audience = match audience(group) {
                Ok(audience) => audience,
                Err(error) => return unusable(error),
            };
            node.broadcast(now, &audience, message(&letter), key).ok();
        }
        Call::BroadcastExcept {
            except,
            group,
            message: letter,
            key,
        } => {
            let audience = match audience(group) {
                Ok(audience) => audience,
                Err(error) => return unusable(error),
            };
            node.broadcast_except(now, &audience, except, message(&letter), key)
                .ok();
        }
        Call::Cancel { promise } => {
            node.cancel(now, promise).ok();
        }
        Call::Ack { delivery } => {
            node.ack(now, delivery).ok();
        }
        Call::Reply {
            delivery,
            tag,
            body,
        } => {
            node.reply(now, delivery, tag, body.to_bytes()).ok();
        }
        Call::Reject {
            delivery,
            code,
            reason,
        } => {
            node.reject(now, delivery, Status::new(code, reason)).ok();
        }
    }
    None
}

/// Whom a recorded broadcast was for.
fn audience(group: Option<&str>) -> Result<Audience, InvalidName> {
    match group {
        None => Ok(Audience::Everyone),
        Some(group) => GroupName::new(group).map(Audience::Group),
    }
}

/// Changes what a node shows, or whom it trusts, if what was recorded of that can be used.
fn changed<T>(
    recorded: Result<T, TlsError>,
    change: impl FnOnce(T) -> Result<(), ConfigError>,
) -> Option<String> {
    match recorded {
        Ok(recorded) => {
            change(recorded).ok();
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// A recorded identity; its key's signatures are recorded too.
fn identity(chain: &[u8]) -> Result<Identity, TlsError> {
    Identity::without_key(certificates(chain).unwrap_or_default(), "a recorded chain")
}

/// Recorded roots.
fn roots(bytes: &[u8]) -> Result<Roots, TlsError> {
    Roots::from_der(certificates(bytes).unwrap_or_default(), "a record of roots")
}
