//! The bytes of calls.

use std::time::SystemTime;

use super::codec::{Decoder, Encoder};
use crate::error::{CloseCode, StatusCode};
use crate::id::Tag;
use crate::tap::{Call, Level};

/// The numbers of the kinds of calls.
mod kind {
    pub(super) const DATAGRAM: u8 = 1;
    pub(super) const TIMEOUT: u8 = 2;
    pub(super) const CONNECT: u8 = 3;
    pub(super) const REDIRECT: u8 = 4;
    pub(super) const JOIN: u8 = 5;
    pub(super) const LEAVE: u8 = 6;
    pub(super) const CLOSE: u8 = 7;
    pub(super) const DRAIN: u8 = 8;
    pub(super) const ADMIT: u8 = 9;
    pub(super) const REFUSE: u8 = 10;
    pub(super) const SEND: u8 = 11;
    pub(super) const SEND_ACKED: u8 = 12;
    pub(super) const REQUEST: u8 = 13;
    pub(super) const SEND_BEST_EFFORT: u8 = 14;
    pub(super) const BROADCAST: u8 = 15;
    pub(super) const CANCEL: u8 = 16;
    pub(super) const ACK: u8 = 17;
    pub(super) const REPLY: u8 = 18;
    pub(super) const REJECT: u8 = 19;
    pub(super) const ADD_ADDRESS: u8 = 20;
    pub(super) const SET_CREDENTIALS: u8 = 21;
    pub(super) const SET_SERVER_IDENTITY: u8 = 22;
    pub(super) const SET_CLIENT_IDENTITY: u8 = 23;
    pub(super) const SET_WALL: u8 = 24;
    pub(super) const BROADCAST_EXCEPT: u8 = 25;
    pub(super) const SET_CLIENT_ROOTS: u8 = 26;
    pub(super) const SET_SERVER_ROOTS: u8 = 27;
    pub(super) const FORGET_ADDRESSES: u8 = 28;
}

/// The number of a call's kind.
pub(super) fn kind_of(call: &Call<'_>) -> u8 {
    match call {
        Call::Datagram { .. } => kind::DATAGRAM,
        Call::Timeout => kind::TIMEOUT,
        Call::Connect { .. } => kind::CONNECT,
        Call::Redirect { .. } => kind::REDIRECT,
        Call::AddAddress { .. } => kind::ADD_ADDRESS,
        Call::ForgetAddresses { .. } => kind::FORGET_ADDRESSES,
        Call::SetCredentials { .. } => kind::SET_CREDENTIALS,
        Call::SetServerIdentity { .. } => kind::SET_SERVER_IDENTITY,
        Call::SetClientIdentity { .. } => kind::SET_CLIENT_IDENTITY,
        Call::SetClientRoots { .. } => kind::SET_CLIENT_ROOTS,
        Call::SetServerRoots { .. } => kind::SET_SERVER_ROOTS,
        Call::SetWall { .. } => kind::SET_WALL,
        Call::Join { .. } => kind::JOIN,
        Call::Leave { .. } => kind::LEAVE,
        Call::Close { .. } => kind::CLOSE,
        Call::Drain { .. } => kind::DRAIN,
        Call::Admit { .. } => kind::ADMIT,
        Call::Refuse { .. } => kind::REFUSE,
        Call::Send { .. } => kind::SEND,
        Call::SendAcked { .. } => kind::SEND_ACKED,
        Call::Request { .. } => kind::REQUEST,
        Call::SendBestEffort { .. } => kind::SEND_BEST_EFFORT,
        Call::Broadcast { .. } => kind::BROADCAST,
        Call::BroadcastExcept { .. } => kind::BROADCAST_EXCEPT,
        Call::Cancel { .. } => kind::CANCEL,
        Call::Ack { .. } => kind::ACK,
        Call::Reply { .. } => kind::REPLY,
        Call::Reject { .. } => kind::REJECT,
    }
}

/// Writes what follows a call's kind and time.
pub(super) fn encode_call(call: &Call<'_>, level: Level, out: &mut Encoder<'_>) {
    match *call {
        Call::Datagram {
            remote,
            local_ip,
            ecn,
            data,
        } => {
            out.address(remote);
            out.optional(local_ip, Encoder::ip);
            out.optional(ecn, Encoder::byte);
            out.bytes(data);
        }
        Call::Timeout => {}
        Call::Connect {
            address,
            server_name,
            client,
            credentials,
            agent,
        } => {
            out.address(address);
            out.text(server_name);
            out.text(client);
            out.credentials(credentials, level);
            out.text(agent);
        }
        Call::Redirect { session, address } | Call::AddAddress { session, address } => {
            out.session(session);
            out.address(address);
        }
        Call::ForgetAddresses { session } => out.session(session),
        Call::SetCredentials {
            session,
            credentials,
        } => {
            out.session(session);
            out.credentials(credentials, level);
        }
        Call::SetServerIdentity { chain } | Call::SetClientIdentity { chain } => {
            out.bytes(chain);
        }
        Call::SetClientRoots { certificates } | Call::SetServerRoots { certificates } => {
            out.bytes(certificates);
        }
        Call::SetWall { wall } => {
            let since = wall.duration_since(SystemTime::UNIX_EPOCH);
            out.span(since.unwrap_or_default());
        }
        Call::Join { session, group } => {
            out.session(session);
            out.text(group);
        }
        Call::Leave { session, group } => {
            out.session(session);
            out.text(group);
        }
        Call::Close {
            session,
            code,
            reason,
        } => {
            out.session(session);
            out.number(code.0.into());
            out.text(reason);
        }
        Call::Drain {
            deadline,
            retry_after,
            alternative,
        } => {
            out.span(deadline);
            out.optional(retry_after, Encoder::span);
            out.optional(alternative, Encoder::text);
        }
        Call::Admit { link } => {
            out.link(link);
        }
        Call::Refuse {
            link,
            reason,
            retry_after,
        } => {
            out.link(link);
            out.text(reason);
            out.optional(retry_after, Encoder::span);
        }
        Call::Send { to, message } => {
            out.session(to);
            out.letter(&message, level);
        }
        Call::SendAcked {
            to,
            message,
            timeout,
        } => {
            out.session(to);
            out.letter(&message, level);
            out.optional(timeout, Encoder::span);
        }
        Call::Request {
            to,
            message,
            timeout,
        } => {
            out.session(to);
            out.letter(&message, level);
            out.optional(timeout, Encoder::span);
        }
        Call::SendBestEffort { to, message, key } => {
            out.session(to);
            out.letter(&message, level);
            out.optional(key, Encoder::fixed);
        }
        Call::Broadcast {
            group,
            message,
            key,
        } => {
            out.optional(group, Encoder::text);
            out.letter(&message, level);
            out.optional(key, Encoder::fixed);
        }
        Call::BroadcastExcept {
            except,
            group,
            message,
            key,
        } => {
            out.session(except);
            out.optional(group, Encoder::text);
            out.letter(&message, level);
            out.optional(key, Encoder::fixed);
        }
        Call::Cancel { promise } => {
            out.promise(promise);
        }
        Call::Ack { delivery } => {
            out.delivery(delivery);
        }
        Call::Reply {
            delivery,
            tag,
            body,
        } => {
            out.delivery(delivery);
            out.fixed(tag.0);
            out.body(body, level);
        }
        Call::Reject {
            delivery,
            code,
            reason,
        } => {
            out.delivery(delivery);
            out.number(code.0.into());
            out.text(reason);
        }
    }
}

/// Reads what follows a call's kind and time.
pub(super) fn decode_call<'a>(kind: u8, level: Level, from: &mut Decoder<'a>) -> Option<Call<'a>> {
    Some(match kind {
        // At link level only that one came is recorded, and redaction would leave this one as it is.
        kind::DATAGRAM if level == Level::Wire => Call::Datagram {
            remote: from.address()?,
            local_ip: from.optional(Decoder::ip)?,
            ecn: from.optional(Decoder::byte)?,
            data: from.bytes()?,
        },
        kind::TIMEOUT => Call::Timeout,
        kind::CONNECT => Call::Connect {
            address: from.address()?,
            server_name: from.text()?,
            client: from.text()?,
            credentials: from.body(level)?,
            agent: from.text()?,
        },
        kind::REDIRECT => Call::Redirect {
            session: from.session()?,
            address: from.address()?,
        },
        kind::ADD_ADDRESS => Call::AddAddress {
            session: from.session()?,
            address: from.address()?,
        },
        kind::FORGET_ADDRESSES => Call::ForgetAddresses {
            session: from.session()?,
        },
        kind::SET_CREDENTIALS => Call::SetCredentials {
            session: from.session()?,
            credentials: from.body(level)?,
        },
        kind::SET_SERVER_IDENTITY => Call::SetServerIdentity {
            chain: from.bytes()?,
        },
        kind::SET_CLIENT_IDENTITY => Call::SetClientIdentity {
            chain: from.bytes()?,
        },
        kind::SET_CLIENT_ROOTS => Call::SetClientRoots {
            certificates: from.bytes()?,
        },
        kind::SET_SERVER_ROOTS => Call::SetServerRoots {
            certificates: from.bytes()?,
        },
        kind::SET_WALL => Call::SetWall {
            wall: SystemTime::UNIX_EPOCH.checked_add(from.span()?)?,
        },
        kind::JOIN => Call::Join {
            session: from.session()?,
            group: from.text()?,
        },
        kind::LEAVE => Call::Leave {
            session: from.session()?,
            group: from.text()?,
        },
        kind::CLOSE => Call::Close {
            session: from.session()?,
            code: CloseCode(from.small()?),
            reason: from.text()?,
        },
        kind::DRAIN => Call::Drain {
            deadline: from.span()?,
            retry_after: from.optional(Decoder::span)?,
            alternative: from.optional(Decoder::text)?,
        },
        kind::ADMIT => Call::Admit { link: from.link()? },
        kind::REFUSE => Call::Refuse {
            link: from.link()?,
            reason: from.text()?,
            retry_after: from.optional(Decoder::span)?,
        },
        kind::SEND => Call::Send {
            to: from.session()?,
            message: from.letter(level)?,
        },
        kind::SEND_ACKED => Call::SendAcked {
            to: from.session()?,
            message: from.letter(level)?,
            timeout: from.optional(Decoder::span)?,
        },
        kind::REQUEST => Call::Request {
            to: from.session()?,
            message: from.letter(level)?,
            timeout: from.optional(Decoder::span)?,
        },
        kind::SEND_BEST_EFFORT => Call::SendBestEffort {
            to: from.session()?,
            message: from.letter(level)?,
            key: from.optional(Decoder::fixed)?,
        },
        kind::BROADCAST => Call::Broadcast {
            group: from.optional(Decoder::text)?,
            message: from.letter(level)?,
            key: from.optional(Decoder::fixed)?,
        },
        kind::BROADCAST_EXCEPT => Call::BroadcastExcept {
            except: from.session()?,
            group: from.optional(Decoder::text)?,
            message: from.letter(level)?,
            key: from.optional(Decoder::fixed)?,
        },
        kind::CANCEL => Call::Cancel {
            promise: from.promise()?,
        },
        kind::ACK => Call::Ack {
            delivery: from.delivery()?,
        },
        kind::REPLY => Call::Reply {
            delivery: from.delivery()?,
            tag: Tag(from.fixed()?),
            body: from.body(level)?,
        },
        kind::REJECT => Call::Reject {
            delivery: from.delivery()?,
            code: StatusCode(from.small()?),
            reason: from.text()?,
        },
        _ => return None,
    })
}
