//! The processes of a run: a server, paths to it, and clients that send and listen over these.

use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::books::{Account, Books, Trade, message};
use crate::plan::{Act, Who};
use crate::program::{Certificates, Program, free_address};

/// For what takes as long as links take to come back on a busy machine. A test that waits this long
/// has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Dead after 0.9 s of silence. What was acked is in the journal, also of a server that was killed.
const SERVER: [&str; 4] = ["--json", "--write-first", "--heartbeat", "300ms"];

/// The clients, by what they do.
pub(crate) const TRADES: [Trade; 7] = [
    Trade::Requests,
    Trade::AckedNotes,
    Trade::Relays,
    Trade::Listens,
    Trade::Notes,
    Trade::Requests,
    Trade::AckedNotes,
];
/// So many paths; clients take them in turn.
pub(crate) const PATHS: usize = 2;

pub(crate) struct Stage {
    certificates: Certificates,
    address: String,
    server: Option<Program>,
    paths: Vec<Path>,
    clients: Vec<Client>,
    books: Books,
}

/// `trunkline impair`, which takes orders.
struct Path {
    program: Program,
    input: ChildStdin,
    address: String,
}

/// A client, and after its death the next one in its place, under another name.
struct Client {
    trade: Trade,
    path: usize,
    /// How many have had this place.
    incarnation: u32,
    program: Option<Program>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let certificates = Certificates::new(&[]);
        // A fixed port: what a restart finds again.
        let (server, address) = certificates.server_at(&free_address(), &SERVER);
        let paths: Vec<Path> = (0..PATHS).map(|_| Path::to(&address)).collect();
        let mut stage = Self {
            certificates,
            address,
            server: Some(server),
            paths,
            clients: Vec::new(),
            books: Books::default(),
        };
        for (place, trade) in TRADES.into_iter().enumerate() {
            stage.clients.push(Client {
                trade,
                path: place % PATHS,
                incarnation: 0,
                program: None,
            });
            stage.start_client(place);
        }
        stage
    }

    pub(crate) fn carry_out(&mut self, act: Act) {
        match act {
            Act::Kill(Who::Server) => {
                if let Some(server) = self.server.take() {
                    server.signal("KILL");
                    self.books.journals.push(parsed(&server.end().results));
                }
            }
            Act::Start(Who::Server) => {
                let (server, _) = self.certificates.server_at(&self.address, &SERVER);
                self.server = Some(server);
            }
            Act::Kill(Who::Client(place)) => self.kill_client(place),
            Act::Start(Who::Client(place)) => self.start_client(place),
            Act::Stop(who) => self.signal(who, "STOP"),
            Act::Continue(who) => self.signal(who, "CONT"),
            Act::Order(path, order) => self.paths[path].order(order),
        }
    }

    fn signal(&self, who: Who, signal: &str) {
        let program = match who {
            Who::Server => &self.server,
            Who::Client(place) => &self.clients[place].program,
        };
        if let Some(program) = program {
            program.signal(signal);
        }
    }

    fn start_client(&mut self, place: usize) {
        let client = &mut self.clients[place];
        client.incarnation += 1;
        let id = client.id(place);
        let mut options = vec!["--client-id", &id, "--json"];
        // A dial that came to nothing is followed by another one soon.
        options.extend(["--redial-cap", "2s", "--connect-timeout", "10m"]);
        let sender = ["--each", "--rate", "100/s", "--timeout", "5m"];
        // More than are ever sent.
        let many = ["--count", "100000000"];
        let command = match client.trade {
            Trade::Listens => "listen",
            Trade::Requests => "request",
            _ => "send",
        };
        match client.trade {
            Trade::Listens => {}
            Trade::Requests => options.extend(["hello"].iter().chain(&sender)),
            Trade::Notes => options.extend(["hello"].iter().chain(&sender).chain(&many)),
            Trade::AckedNotes => {
                options.extend(["hello", "--ack"].iter().chain(&sender).chain(&many));
            }
            Trade::Relays => {
                let to_all = ["hello", "--ack", "--to-all"];
                options.extend(to_all.iter().chain(&sender).chain(&many));
            }
        }
        let path = &self.paths[client.path].address;
        client.program = Some(self.certificates.client(command, path, &options));
    }

    fn kill_client(&mut self, place: usize) {
        let client = &mut self.clients[place];
        if let Some(program) = client.program.take() {
            program.signal("KILL");
            let account = client.account(place, program, true);
            self.books.accounts.push(account);
        }
    }

    /// Now that nothing is wrong any more: waits until every client gets through again, with
    /// something that it sent after this, or was sent to it. Notes tell their sender nothing: the server
    /// tells of those.
    pub(crate) fn settle(&mut self) {
        for path in &mut self.paths {
            path.order("heal");
        }
        for (place, client) in self.clients.iter_mut().enumerate() {
            client.see_get_through(place, self.server.as_mut());
        }
    }

    /// Ends everything in order, clients first, and gives the books.
    pub(crate) fn close(mut self) -> Books {
        for client in &self.clients {
            if let Some(program) = &client.program {
                program.signal("INT");
            }
        }
        for (place, client) in self.clients.iter_mut().enumerate() {
            if let Some(program) = client.program.take() {
                self.books
                    .accounts
                    .push(client.account(place, program, false));
            }
        }
        if let Some(server) = self.server.take() {
            server.signal("TERM");
            let ended = server.end_within(PATIENCE);
            assert!(ended.status.success(), "{}", ended.notes);
            let journal = parsed(&ended.results);
            let summary = journal.last().expect("a summary");
            assert_eq!(
                (&summary["doubled"], &summary["disordered"]),
                (&0.into(), &0.into()),
                "{summary}"
            );
            self.books.journals.push(journal);
        }
        self.books
    }
}

impl Path {
    fn to(server: &str) -> Self {
        let arguments = [
            "impair",
            "--listen",
            "127.0.0.1:0",
            "--to",
            server,
            "--stdin",
        ];
        let mut program = Program::start_with(&arguments, Stdio::piped());
        let address = program.address();
        let input = program.child().stdin.take().expect("piped");
        Self {
            program,
            input,
            address,
        }
    }

    /// Gives an order, and sees it carried out.
    fn order(&mut self, order: &str) {
        writeln!(self.input, "{order}").expect("the path is gone");
        let told = match order.split_whitespace().next() {
            Some("cut") => "the path is cut",
            Some("rebind") => "every client has a new port",
            Some("heal") => "what was ordered is undone",
            Some(what) => what,
            None => panic!("an empty order"),
        };
        self.program.line(&[told]);
    }
}

impl Client {
    fn id(&self, place: usize) -> String {
        format!("{:?}-{place}-{}", self.trade, self.incarnation).to_lowercase()
    }

    /// What it has told, now that it has ended or is about to.
    fn account(&self, place: usize, program: Program, killed: bool) -> Account {
        let ended = program.end_within(PATIENCE);
        if !killed {
            // 1: something was lost, as may be. 130: it was stopped before it had sent all.
            let status = ended.status.code();
            assert!(
                matches!(status, Some(0 | 1 | 130)),
                "{status:?}: {}",
                ended.notes
            );
        }
        Account {
            client: self.id(place),
            trade: self.trade,
            lines: parsed(&ended.results),
            killed,
        }
    }

    /// Waits until something that is sent from now on is settled, or handled, or, of a listener, heard.
    fn see_get_through(&mut self, place: usize, server: Option<&mut Program>) {
        let id = self.id(place);
        let Some(program) = &mut self.program else {
            return;
        };
        let told: Vec<Value> = program.told_so_far().filter_map(json).collect();
        let number = |line: &Value| line["number"].as_u64();
        let sent = told.iter().filter(|line| line["event"] == "sent");
        let latest = sent.filter_map(number).max().unwrap_or_default();
        let wanted = format!("{id} getting through");
        if self.trade == Trade::Notes {
            let server = server.expect("whoever was killed was started again");
            server.line_where(PATIENCE, &wanted, |line| {
                let entry = json(line).unwrap_or_default();
                message(&entry).is_some_and(|(from, number)| from == id && number > latest)
            });
            return;
        }
        program.line_where(PATIENCE, &wanted, |line| {
            json(line).is_some_and(|line| match line["event"].as_str() {
                Some("relayed") => true,
                Some("settled") => {
                    let through = ["replied", "acked"].map(Value::from);
                    number(&line) > Some(latest) && through.contains(&line["outcome"])
                }
                _ => false,
            })
        });
    }
}

fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

/// The lines that a program has written whole; one that was killed may have begun another.
fn parsed(results: &str) -> Vec<Value> {
    results.lines().filter_map(json).collect()
}
