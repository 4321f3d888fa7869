//! `trunkline cert`: a certificate authority for development, in a directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use crate::cert_files::{AUTHORITY, Pair, SERVER, client_files, client_of};
use crate::certs::{Authority, CertificateError, DAYS_MAX, Issued, check_client_name};
use crate::failure::Failure;
use crate::output;

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const EXAMPLES: &str = "\
An authority that is in the directory already issues what is asked for, and its server certificate
stays when only clients are added. Key files can be read by their owner only.
For development: anybody who has ca.key can pretend to be your server.

EXAMPLES
  An authority and a server certificate for this machine
    trunkline cert --out certs
  A server with other names, and two clients with certificates of their own
    trunkline cert --out certs --names chat.test,10.0.0.7 --client alice --client bob
  One more client, from the same authority
    trunkline cert --out certs --client carol
  Everything anew (clients of the old authority are named, and their files stay as they are)
    trunkline cert --out certs --force";

/// Make a development certificate authority, a server certificate and client certificates.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The directory to write to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Names and addresses of the server [default: localhost,127.0.0.1,::1]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    names: Vec<String>,
    /// Make a client certificate for that client id; may be given more than once
    #[arg(long = "client", value_name = "NAME", value_parser = client_name)]
    clients: Vec<String>,
    /// How many days the certificates last
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    days: u32,
    /// Overwrite what is there, the authority included
    #[arg(long)]
    force: bool,
}

/// A file that is to be written.
struct Planned {
    path: PathBuf,
    text: String,
    secret: bool,
}

/// Makes everything in memory first, so that a refusal leaves the directory as it was.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let now = SystemTime::now();
    let directory = arguments.out.as_path();
    if directory.exists() && !directory.is_dir() {
        let directory = directory.display();
        return Err(Failure::usage(format!("--out {directory} is no directory")));
    }
    let existing = if arguments.force {
        None
    } else {
        existing_authority(directory)?
    };
    let kept = existing.is_some();
    let authority = match existing {
        Some(authority) => authority,
        None => Authority::generate(now, arguments.days).map_err(refused)?,
    };

    let mut planned = Vec::new();
    if !kept {
        planned.extend(plan(directory, &AUTHORITY, authority.own().clone()));
    }
    let server_stays = kept
        && SERVER.is_in(directory)
        && arguments.names.is_empty()
        && !arguments.clients.is_empty();
    if !server_stays {
        let names = match arguments.names.as_slice() {
            [] => NAMES.map(str::to_owned).to_vec(),
            given => given.to_vec(),
        };
        let server = authority
            .server(&names, now, arguments.days)
            .map_err(refused)?;
        planned.extend(plan(directory, &SERVER, server));
    }
    for client in arguments.clients.iter().collect::<BTreeSet<_>>() {
        let issued = authority
            .client(client, now, arguments.days)
            .map_err(refused)?;
        planned.extend(plan(directory, &client_files(client), issued));
    }
    if !arguments.force {
        refuse_to_overwrite(&planned)?;
    }
    write_all(directory, &planned)?;
    let old = if kept {
        Vec::new()
    } else {
        clients_of_another(directory, &planned)
    };
    output::result(&account(kept, &planned, &old))
}

/// Clients whose certificates are in the directory, and were not written now: the new authority has not signed them.
fn clients_of_another(directory: &Path, planned: &[Planned]) -> Vec<String> {
    let written = |name: &str| {
        let path = directory.join(client_files(name).certificate);
        planned.iter().any(|file| file.path == path)
    };
    // Whoever wrote there may read there; if not, there is nothing to say.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let clients = names.filter_map(|file| client_of(&file).map(str::to_owned));
    // What is called like one, and is none, is somebody else's: an authority of clients, say.
    let made =
        |name: &String| check_client_name(name).is_ok() && client_files(name).is_in(directory);
    let mut old: Vec<String> = clients
        .filter(|name| made(name) && !written(name))
        .collect();
    old.sort();
    old
}

fn client_name(name: &str) -> Result<String, String> {
    check_client_name(name)
        .map(|()| name.to_owned())
        .map_err(|error| error.to_string())
}

/// The authority that an earlier run left there; half of one is refused.
fn existing_authority(directory: &Path) -> Result<Option<Authority>, Failure> {
    let certificate = read_if_there(&directory.join(AUTHORITY.certificate))?;
    let key = read_if_there(&directory.join(AUTHORITY.key))?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Authority::load(&certificate, &key)
                .map(Some)
                .map_err(|error| {
                    Failure::usage(format!(
                        "{}: {error}; --force makes a new one",
                        directory.join(AUTHORITY.certificate).display()
                    ))
                })
        }
        (certificate, _) => {
            let (there, missing) = match certificate {
                Some(_) => (AUTHORITY.certificate, AUTHORITY.key),
                None => (AUTHORITY.key, AUTHORITY.certificate),
            };
            let directory = directory.display();
            Err(Failure::usage(format!(
                "{directory} holds {there} but no {missing}: put it there, or make a new authority with --force"
            )))
        }
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::usage(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

fn plan<Name: AsRef<str>>(directory: &Path, files: &Pair<Name>, issued: Issued) -> [Planned; 2] {
    [
        Planned {
            path: directory.join(files.certificate.as_ref()),
            text: issued.certificate,
            secret: false,
        },
        Planned {
            path: directory.join(files.key.as_ref()),
            text: issued.key,
            secret: true,
        },
    ]
}

fn refuse_to_overwrite(planned: &[Planned]) -> Result<(), Failure> {
    match planned
        .iter()
        .find(|file| file.path.symlink_metadata().is_ok())
    {
        None => Ok(()),
        Some(file) => Err(Failure::usage(format!(
            "{} exists: nothing was written; take another --out, or overwrite everything with --force",
            file.path.display()
        ))),
    }
}

fn write_all(directory: &Path, planned: &[Planned]) -> Result<(), Failure> {
    let failed = |path: &Path, error: io::Error| {
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    for file in planned {
        write(directory, file).map_err(|error| failed(&file.path, error))?;
    }
    Ok(())
}

/// Writes a file that was not there, or that is to be replaced: a new file, so that neither an old
/// one's permissions nor a link decide who can read a key. It has its name once it is whole.
fn write(directory: &Path, file: &Planned) -> io::Result<()> {
    let mut new = tempfile::Builder::new();
    #[cfg(unix)]
    let mode =
        std::os::unix::fs::PermissionsExt::from_mode(if file.secret { 0o600 } else { 0o666 });
    #[cfg(unix)]
    new.permissions(mode);
    let mut new = new.tempfile_in(directory)?;
    new.write_all(file.text.as_bytes())?;
    new.persist(&file.path)?;
    Ok(())
}

fn refused(error: CertificateError) -> Failure {
    match error {
        CertificateError::Other(_) => Failure::failed(error),
        _ => Failure::usage(error),
    }
}

/// What was written.
fn account(kept: bool, planned: &[Planned], old: &[String]) -> String {
    let mut text = String::new();
    if kept {
        text += &format!("kept  {} and {}\n", AUTHORITY.certificate, AUTHORITY.key);
    }
    for file in planned {
        let secret = if file.secret { "  (secret)" } else { "" };
        text += &format!("wrote {}{secret}\n", file.path.display());
    }
    for client in old {
        let Pair { certificate, key } = client_files(client);
        text += &format!(
            "old   {} and {}: the new authority has not signed them; take them away, and --client {} makes new ones\n",
            output::printable(&certificate),
            output::printable(&key),
            output::word(client)
        );
    }
    text
}
