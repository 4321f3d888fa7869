//! Guests enter rooms, and what one says in a room everybody else there hears.

use async_channel::{Sender, unbounded};
use trunkline::{Admit, Client, Context, GroupName, Server, Service, Status};

use crate::common::{Failure, throwaway_certificate};

messages! {
    package "chat.v1";
    message Enter { string room = "1"; }
    message Say { string room = "1"; string text = "2"; }
    message Said { string room = "1"; string guest = "2"; string text = "3"; }
}

/// On the server: a guest enters a room, and stays there for as long as its session lives.
async fn enter(chat: Context<()>, Enter { room }: Enter) -> Result<(), Status> {
    chat.peer().join(&GroupName::new(&room)?).await?;
    Ok(())
}

/// On the server: what a guest says goes to everybody else in the room. A broadcast is best effort:
/// it waits for nobody, and who is away or too slow misses it.
async fn say(chat: Context<()>, Say { room, text }: Say) -> Result<(), Status> {
    let group = chat.server().group(&GroupName::new(&room)?);
    let guest = chat.client_id().to_string();
    let said = Said { room, guest, text };
    group.broadcast(&said).except(chat.peer()).await?;
    Ok(()) // This is the ack: the guest knows that the server has passed it on.
}

/// On a client: somebody in one of its rooms said something.
async fn hear(client: Context<Sender<(String, Said)>>, said: Said) {
    let _ = client
        .state()
        .send((client.client_id().to_string(), said))
        .await;
}

pub(crate) async fn run() -> Result<(), Failure> {
    let (identity, roots) = throwaway_certificate()?;
    let server = Server::bind("127.0.0.1:0".parse()?)
        .identity(identity)
        .admission(Admit::open())
        .service(Service::new(()).on(enter).on(say))
        .await?;

    let (ear, heard) = unbounded();
    let mut guests = Vec::new();
    for (name, room) in [
        ("anna", "tea"),
        ("otto", "tea"),
        ("ada", "tea"),
        ("emil", "coffee"),
    ] {
        let client = Client::connect(server.local_addr().to_string())
            .server_name("localhost")
            .roots(roots.clone())
            .client_id(name)
            .service(Service::new(ear.clone()).on(hear))
            .await?;
        let room = room.to_owned();
        client.send(&Enter { room: room.clone() }).acked().await?;
        guests.push((client, room));
    }

    for (client, room) in &guests {
        let (room, text) = (room.clone(), format!("{room} for me"));
        client.send(&Say { room, text }).acked().await?;
    }

    // Each that drinks tea hears the two others, and who is alone hears nobody.
    for _ in 0..6 {
        let (name, Said { room, guest, text }) = heard.recv().await?;
        println!("{name} hears {guest} say in {room}: {text}");
        if guest == name {
            return Err(format!("{name} hears itself").into());
        }
        if guests
            .iter()
            .any(|(client, own)| client.client_id().as_str() == name && *own != room)
        {
            return Err(format!("{name} never entered {room}").into());
        }
    }
    for (client, _) in guests {
        client.close().await;
    }
    server.close().await;
    Ok(())
}
