//! Who may have a session: see [`tokens`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use trunkline_core::{ClientId, CloseCode, Config, LinkKey};
use trunkline_proto::control::Frame;
use trunkline_proto::{Control, Hello, Ready, Receipt, Resume, Welcome};

use crate::raw_peer::{frame, hello};
use crate::world::echo;

use super::Reached;
use super::input::Input;
use super::scripted::{CONTROL, Scripted};

pub(super) const FLOOR: &[&str] = &[
    "a new session",
    "a session resumed",
    "a session resumed with the token before",
    "a session lost",
    "a wrong token",
    "a token of before",
    "a late attempt",
    "another client's session",
    "a session that is in use",
    "a hello that cannot be read",
    "another version",
    "what is no hello",
    "an unknown frame",
    "a flipped bit of the token",
    "a flipped bit of the session's id",
    "a flipped bit of the client's id",
];

/// Clients say hello to a server, with tokens that they have and tokens that they do not, and with
/// any bits of it flipped.
///
/// The server lets each of them have exactly what a model of PROTOCOL.md's sections 6 and 7 says: a
/// session with the present token or the one before, under the client's own name, or a new one, or
/// nothing but the code that says why. Who is refused changes nothing: whoever has the session goes
/// on.
///
/// The input: hellos, each a byte of flags, a token's and a session's place, and flips of two bytes.
pub fn tokens(data: &[u8]) -> Reached {
    let mut input = Input::new(data);
    let mut stage = Stage::new();
    for _ in 0..HELLOS_MAX {
        if input.is_empty() {
            break;
        }
        stage.hello(&mut input);
    }
    stage.reached
}

/// Every bit of a hello that resumes, flipped; and some histories of tokens.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let resumes = [flag::RESUMES | flag::READY, 0, 0];
    for bit in (0..1_100_u16).step_by(7) {
        let [high, low] = bit.to_be_bytes();
        let mut seed = vec![flag::READY];
        seed.extend([flag::RESUMES | 1 << flag::FLIPS, 0, 0, high, low]);
        seed.extend(resumes);
        seeds.push(seed);
    }
    for place in 0..6 {
        for ready in [0, flag::READY] {
            let mut seed = vec![flag::READY];
            seed.extend([flag::RESUMES | ready, 0, 0]);
            seed.extend([flag::RESUMES | ready, place, 0]);
            seed.extend([flag::RESUMES | flag::OTHER_CLIENT, 0, 0]);
            seed.extend([flag::RESUMES | flag::LATE, place, 0]);
            seed.extend(resumes);
            seeds.push(seed);
        }
    }
    seeds.push(vec![flag::READY, flag::SAME_ID]);
    seeds.push(vec![flag::READY, flag::NONE]);
    // The number of the frame's member becomes one that nobody knows.
    for bit in [5, 6] {
        seeds.push(vec![flag::NONE | 1 << flag::FLIPS, 0, bit, flag::READY]);
    }
    seeds
}

/// More hellos than this are left out.
const HELLOS_MAX: u64 = 24;

/// What a hello is, as bits of a byte.
mod flag {
    /// It asks for a session that there was.
    pub(super) const RESUMES: u8 = 1;
    /// The client says Ready when it is welcomed.
    pub(super) const READY: u8 = 2;
    /// How many bits are flipped: two bits, from this one on.
    pub(super) const FLIPS: u8 = 2;
    /// It comes from the other client.
    pub(super) const OTHER_CLIENT: u8 = 16;
    /// It proposes a session's id that was proposed before.
    pub(super) const SAME_ID: u8 = 32;
    /// It is none: a Ready comes in its place.
    pub(super) const NONE: u8 = 64;
    /// Its attempt is that which resumed the session last, or none.
    pub(super) const LATE: u8 = 128;
}

const NAMES: [&str; 2] = ["alice", "bob"];

/// A server, and what a model of it knows.
struct Stage {
    nodes: Scripted,
    hellos: u64,
    sessions: BTreeMap<Bytes, Known>,
    /// Sessions in the order in which they were made.
    order: Vec<Bytes>,
    reached: Reached,
}

/// What the model knows of a session.
struct Known {
    client: String,
    current: Bytes,
    previous: Option<Bytes>,
    epoch: u64,
    /// The attempt that resumed it last.
    attempt: u64,
    link: LinkKey,
    /// Every token that it had, the latest last.
    tokens: Vec<Bytes>,
}

/// What a hello has to bring.
enum Expected {
    /// Nothing: later versions may say more.
    Ignored,
    Refused(&'static [CloseCode]),
    Resumed(Bytes),
    New,
}

impl Stage {
    fn new() -> Self {
        Self {
            nodes: Scripted::new(Config::default(), true, Instant::now()),
            hellos: 0,
            sessions: BTreeMap::new(),
            order: Vec::new(),
            reached: Reached::new(),
        }
    }

    fn hello(&mut self, input: &mut Input<'_>) {
        let flags = input.byte();
        self.hellos += 1;
        let number = if flags & flag::SAME_ID == 0 {
            self.hellos
        } else {
            1
        };
        let name = NAMES[usize::from(flags & flag::OTHER_CLIENT != 0)];
        let mut said = hello(name, number);
        if flags & flag::RESUMES != 0 {
            let late = flags & flag::LATE != 0;
            said.resume = Some(self.resume(input.byte(), input.byte(), late));
        }
        let whole = said.clone();
        let said = match flags & flag::NONE {
            0 => Frame::Hello(said),
            _ => Frame::Ready(Ready { epoch: 1 }),
        };
        let control = Control { frame: Some(said) };
        let mut bytes = control.encode_to_vec();
        let flips = flags >> flag::FLIPS & 3;
        for _ in 0..flips {
            let bit = usize::from(input.short()) % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let decoded = Control::decode(&bytes[..]).ok();
        if flips == 1 {
            self.note_flip(&whole, decoded.as_ref());
        }
        let expected = self.expect(decoded.as_ref());
        let link = self.nodes.begin(self.hellos as u8);
        self.nodes.write(link, CONTROL, frame(&bytes));
        self.nodes.pass(Duration::ZERO, &mut echo);
        let welcomed = self.compare(link, expected, decoded);
        if let Some(id) = welcomed.filter(|_| flags & flag::READY != 0)
            && let Some(session) = self.sessions.get_mut(&id)
        {
            let epoch = session.epoch;
            session.previous = None;
            self.nodes.control(link, Frame::Ready(Ready { epoch }));
            self.nodes.pass(Duration::ZERO, &mut echo);
        }
        self.unharmed();
    }

    /// What asks for a session, counted from the latest, with one of its tokens, counted so too.
    fn resume(&mut self, token: u8, session: u8, late: bool) -> Resume {
        let back = usize::from(session).checked_rem(self.order.len());
        let id = back.map(|back| self.order[self.order.len() - 1 - back].clone());
        let known = id.as_ref().and_then(|id| self.sessions.get(id));
        let tokens = known.map_or(&[][..], |known| &known.tokens);
        let back = usize::from(token).checked_rem(tokens.len());
        let token = back.map(|back| tokens[tokens.len() - 1 - back].clone());
        Resume {
            session_id: id.unwrap_or_else(|| vec![9; 16].into()),
            token: token.unwrap_or_else(|| vec![9; 16].into()),
            epoch: known.map_or(0, |known| known.epoch),
            received: vec![Receipt { lane: 0, next: 0 }],
            attempt: known.map_or(0, |known| known.attempt.saturating_add(u64::from(!late))),
        }
    }

    fn note_flip(&mut self, whole: &Hello, decoded: Option<&Control>) {
        let Some(Frame::Hello(flipped)) = decoded.and_then(|control| control.frame.as_ref()) else {
            return;
        };
        let [one, other] = [whole, flipped].map(|hello| hello.resume.clone().unwrap_or_default());
        if one.token != other.token {
            self.reached.insert("a flipped bit of the token");
        }
        if one.session_id != other.session_id {
            self.reached.insert("a flipped bit of the session's id");
        }
        if whole.client_id != flipped.client_id {
            self.reached.insert("a flipped bit of the client's id");
        }
    }

    /// What the server has to make of it, in the order of PROTOCOL.md's section 6.2.
    fn expect(&mut self, control: Option<&Control>) -> Expected {
        let mut refused = |what, codes| {
            self.reached.insert(what);
            Expected::Refused(codes)
        };
        let Some(control) = control else {
            return refused("a hello that cannot be read", &[CloseCode::UNDECODABLE]);
        };
        let hello = match &control.frame {
            Some(Frame::Hello(hello)) => hello,
            Some(_) => return refused("what is no hello", &[CloseCode::PROTOCOL_VIOLATION]),
            None => return Expected::Ignored,
        };
        if hello.version != 1 {
            return refused("another version", &[CloseCode::VERSION_MISMATCH]);
        }
        let sixteen = |bytes: &Bytes| bytes.len() == 16;
        let resume = hello.resume.as_ref();
        let whole = sixteen(&hello.session_id)
            && sixteen(&hello.token)
            && resume.is_none_or(|resume| {
                let named = sixteen(&resume.session_id) && sixteen(&resume.token);
                named && resume.attempt > 0
            });
        if !whole || ClientId::new(&hello.client_id).is_err() {
            return refused("a hello that cannot be read", &[CloseCode::UNDECODABLE]);
        }
        let known =
            resume.and_then(|resume| Some((resume, self.sessions.get(&resume.session_id)?)));
        if let Some((resume, session)) = known {
            if session.client != hello.client_id {
                return refused("another client's session", &[CloseCode::WRONG_TOKEN]);
            }
            let previous = session.previous.as_ref() == Some(&resume.token);
            let good = previous || session.current == resume.token;
            if good && resume.attempt <= session.attempt {
                return refused("a late attempt", &[CloseCode::SUPERSEDED]);
            }
            if !good {
                let what = match session.tokens.contains(&resume.token) {
                    true => "a token of before",
                    false => "a wrong token",
                };
                return refused(what, &[CloseCode::WRONG_TOKEN]);
            }
            if previous {
                self.reached
                    .insert("a session resumed with the token before");
            }
            return Expected::Resumed(resume.session_id.clone());
        }
        if self.sessions.contains_key(&hello.session_id) {
            return refused("a session that is in use", &[CloseCode::WRONG_TOKEN]);
        }
        Expected::New
    }

    /// Whether the server did what it had to. The session that it gave, if it gave one.
    fn compare(
        &mut self,
        link: LinkKey,
        expected: Expected,
        decoded: Option<Control>,
    ) -> Option<Bytes> {
        let welcome = match self.nodes.heard(link).into_iter().next() {
            None => None,
            Some(Frame::Welcome(welcome)) => Some(welcome),
            Some(other) => panic!("{other:?} in place of a welcome"),
        };
        let said = decoded.and_then(|control| match control.frame {
            Some(Frame::Hello(hello)) => Some(hello),
            _ => None,
        });
        let closed = self.nodes.closed(link).map(|(code, _)| *code);
        match (expected, welcome, said) {
            (Expected::Ignored, None, _) => {
                assert_eq!(closed, None);
                self.reached.insert("an unknown frame");
                None
            }
            (Expected::Refused(codes), None, _) => {
                let fits = closed.is_some_and(|code| codes.contains(&code));
                assert!(fits, "{closed:?} in place of {codes:?}");
                None
            }
            (Expected::Resumed(id), Some(welcome), Some(said)) => {
                assert!(welcome.resumed && welcome.session_id == id, "{welcome:?}");
                self.resumed(link, &id, welcome, &said, closed)
            }
            (Expected::New, Some(welcome), Some(said)) => {
                let asked = said.resume.is_some();
                let lost = if asked {
                    CloseCode::UNKNOWN_SESSION.0
                } else {
                    0
                };
                let as_new =
                    (welcome.resumed, welcome.epoch, welcome.lost_code) == (false, 1, lost);
                assert!(
                    as_new && welcome.session_id == said.session_id,
                    "{welcome:?}"
                );
                assert_eq!(closed, None);
                self.reached.insert(if asked {
                    "a session lost"
                } else {
                    "a new session"
                });
                self.order.push(welcome.session_id.clone());
                let session = Known {
                    client: said.client_id,
                    current: welcome.token.clone(),
                    previous: None,
                    epoch: 1,
                    attempt: 0,
                    link,
                    tokens: vec![welcome.token],
                };
                self.sessions.insert(welcome.session_id.clone(), session);
                Some(welcome.session_id)
            }
            (_, welcome, _) => panic!("the server said {welcome:?}, and closed with {closed:?}"),
        }
    }

    fn resumed(
        &mut self,
        link: LinkKey,
        id: &Bytes,
        welcome: Welcome,
        said: &Hello,
        closed: Option<CloseCode>,
    ) -> Option<Bytes> {
        let session = self.sessions.get_mut(id)?;
        self.reached.insert("a session resumed");
        assert_eq!(welcome.epoch, session.epoch + 1);
        assert!(
            !session.tokens.contains(&welcome.token),
            "a token comes again"
        );
        session.epoch = welcome.epoch;
        if let Some(resume) = &said.resume {
            session.previous = Some(resume.token.clone());
            session.attempt = resume.attempt;
        }
        session.current = welcome.token.clone();
        session.tokens.push(welcome.token);
        let before = std::mem::replace(&mut session.link, link);
        let superseded = self.nodes.closed(before).map(|(code, _)| *code);
        assert!(superseded.is_some(), "the link of before goes on");
        // Nothing was sent to it, and so nothing may be said to have come.
        let unsound = closed.is_some();
        let claims = |resume: &Resume| resume.received.iter().any(|receipt| receipt.next > 0);
        let receipts = said.resume.as_ref().is_some_and(claims);
        assert!(!unsound || receipts, "closed with {closed:?}");
        (!unsound).then(|| id.clone())
    }

    /// Nobody's link was closed but by who took its session over.
    fn unharmed(&self) {
        for session in self.sessions.values() {
            let closed = self.nodes.closed(session.link);
            let own = closed.is_none_or(|(code, _)| {
                [CloseCode::BAD_RECEIPT, CloseCode::UNKNOWN_LANE].contains(code)
            });
            assert!(own, "a session's link was closed: {closed:?}");
        }
    }
}
