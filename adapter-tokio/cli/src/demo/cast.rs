//! Who takes part: a server, its clients, and the path between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use trunkline_tokio::{
    Admit, Client, ClientId, Context, Identity, Peer, Roots, Server, Service, Status, StatusCode,
};

use super::ledger::Ledger;
use super::lifecycle::{ClientHooks, Links, ServerHooks};
use super::messages::{Add, News, Note, Sum};
use super::plan::Plan;
use super::story::Story;
use crate::certs::{Authority, Issued};
use crate::failure::{Failure, cannot_listen};
use crate::impair::{Direction, Handle, ProxySettings, Summary};

/// What the server's certificate is made out to.
const SERVER_NAME: &str = "localhost";
/// How long a close may take; it gives up by itself before that.
const CLOSING: Duration = Duration::from_secs(10);

/// Everybody.
pub(crate) struct Cast {
    pub(crate) server: Server,
    pub(crate) path: Handle,
    pub(crate) clients: Vec<Participant>,
}

/// A client.
pub(crate) struct Participant {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) links: Arc<watch::Sender<Links>>,
    /// From its first packet to the server's welcome.
    pub(crate) connect: Duration,
}

type Ledgers = BTreeMap<String, Arc<Ledger>>;

impl Cast {
    /// Starts the server and the path, and connects the clients through it.
    pub(crate) async fn assemble(plan: &Plan, story: &Story) -> Result<Self, Failure> {
        let names: Vec<String> = (0..plan.clients).map(Plan::name).collect();
        let ledgers: Ledgers = names
            .iter()
            .map(|name| (name.clone(), Arc::default()))
            .collect();
        let now = SystemTime::now();
        let authority = Authority::generate(now, 1).map_err(Failure::failed)?;
        let roots = Roots::from_pem(
            authority.own().certificate.as_bytes(),
            "the demo's authority",
        )
        .map_err(Failure::failed)?;

        let issued = authority.server(&[SERVER_NAME.to_owned()], now, 1);
        let server = Server::bind(loopback())
            .identity(identity(issued.map_err(Failure::failed)?)?)
            .admission(Admit::mutual_tls(roots.clone()))
            .service(server_service(ledgers.clone()))
            .hooks(ServerHooks(story.clone()))
            .config(plan.config())
            .await
            .map_err(Failure::failed)?;
        let path = path(plan, server.local_addr())?;
        story.say(
            "server",
            format_args!("listening on {}", server.local_addr()),
        );
        story.say(
            "path",
            format_args!(
                "{} leads to it, seed {}: {}",
                path.address(),
                plan.seed,
                plan.path
            ),
        );

        // All at once: on a bad path a handshake may take a while.
        let mut connecting = Vec::new();
        for (name, ledger) in &ledgers {
            let issued = authority.client(name, now, 1).map_err(Failure::failed)?;
            let (hooks, links) = ClientHooks::new(name, story);
            let client = Client::connect(path.address().to_string())
                .server_name(SERVER_NAME)
                .roots(roots.clone())
                .identity(identity(issued)?)
                .client_id(name)
                .service(client_service(name, Arc::clone(ledger)))
                .hooks(hooks)
                .config(plan.config());
            let (name, ledger) = (name.clone(), Arc::clone(ledger));
            connecting.push(tokio::spawn(async move {
                let start = Instant::now();
                let client = client
                    .await
                    .map_err(|error| Failure::failed(format!("{name} cannot connect: {error}")))?;
                Ok(Participant {
                    name,
                    client,
                    ledger,
                    links,
                    connect: start.elapsed(),
                })
            }));
        }
        let mut clients: Vec<Participant> = Vec::new();
        for client in connecting {
            clients.push(client.await.map_err(Failure::failed)??);
        }
        clients.sort_by_key(|client| names.iter().position(|name| *name == client.name));
        Ok(Self {
            server,
            path,
            clients,
        })
    }

    /// The server's end of a client's session.
    pub(crate) fn peer(&self, client: &Participant) -> Option<Peer> {
        self.server.client(client.client.client_id())
    }

    /// Ends everything, what is under way first; says what the path did.
    pub(crate) async fn dismiss(&self) -> Result<Summary, Failure> {
        for participant in &self.clients {
            // What is not closed by then shows in the books, if anywhere.
            let _ = tokio::time::timeout(CLOSING, participant.client.close()).await;
        }
        let _ = tokio::time::timeout(CLOSING, self.server.close()).await;
        self.path.report().await.map_err(Failure::failed)
    }
}

/// What the server does with messages: it writes them down, and answers questions.
fn server_service(ledgers: Ledgers) -> Service<Ledgers> {
    Service::new(ledgers)
        .on(async |context: Context<Ledgers>, note: Note| {
            let client = context.client_id();
            let genuine = note.is_genuine(client.as_str(), Direction::Up);
            ledger_of(&context, client)?
                .up
                .arrived(note.number, genuine);
            Ok::<_, Status>(())
        })
        .on_request(async |context: Context<Ledgers>, add: Add| {
            let ledger = ledger_of(&context, context.client_id())?;
            ledger.requests.arrived(add.number, add.is_genuine());
            Ok::<_, Status>(Sum { value: add.sum() })
        })
}

fn ledger_of<'a>(context: &'a Context<Ledgers>, client: &ClientId) -> Result<&'a Ledger, Status> {
    context
        .state()
        .get(client.as_str())
        .map(Arc::as_ref)
        .ok_or_else(|| Status::new(StatusCode::NOT_FOUND, "this client is not part of the demo"))
}

/// What a client does with messages: it writes them down.
fn client_service(name: &str, ledger: Arc<Ledger>) -> Service<(String, Arc<Ledger>)> {
    type State = (String, Arc<Ledger>);
    Service::new((name.to_owned(), ledger))
        .on(async |context: Context<State>, note: Note| {
            let (name, ledger) = context.state();
            let genuine = note.is_genuine(name, Direction::Down);
            ledger.down.arrived(note.number, genuine);
        })
        .on(async |context: Context<State>, news: News| {
            let (_, ledger) = context.state();
            let genuine = news.is_genuine();
            ledger
                .news
                .send_modify(|arrivals| arrivals.note(news.number, genuine));
        })
}

fn path(plan: &Plan, server: SocketAddr) -> Result<Handle, Failure> {
    let settings = ProxySettings {
        listen: loopback(),
        to: server,
        impairments: plan.path,
        seed: plan.seed,
        rebind_every: None,
        clients: plan.clients,
        // Longer than the longest demo: nobody is forgotten.
        idle: Duration::from_secs(3_600),
    };
    Handle::start(settings).map_err(|error| cannot_listen(loopback(), &error))
}

fn identity(issued: Issued) -> Result<Identity, Failure> {
    let Issued { certificate, key } = issued;
    Identity::from_pem(
        certificate.as_bytes(),
        key.as_bytes(),
        "the demo's certificate",
    )
    .map_err(Failure::failed)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
