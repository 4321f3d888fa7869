//! A file in which a server keeps its keys from one process to the next.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::random_seed;
use crate::driver::recording;
use crate::{PersistentKeys, Seed};

/// Such a file holds the keys' bytes, and nothing else.
const LENGTH: usize = 64;

/// How many digits the number has under which a file is written, until it is whole.
const NUMBER_DIGITS: usize = 16;

/// With the feature `system`, and so with both adapters.
impl PersistentKeys {
    /// The keys of that file. If there is no such file, it is made, with keys from the operating system's randomness:
    /// 64 bytes that only its owner can read (on Unix; elsewhere, who can read files of its folder), whole on the disk
    /// before they have that name. Processes that start at once end with the same keys, and no file is ever overwritten.
    /// Blocks while it reads and writes.
    ///
    /// Each server has a file of its own, on a disk that outlives the process (and its container), in a folder that is
    /// there.
    ///
    /// ```no_run
    /// # fn run() -> std::io::Result<()> {
    /// use trunkline_core::PersistentKeys;
    ///
    /// let keys = PersistentKeys::load_or_create("/var/lib/greeter/server.keys")?;
    /// # drop(keys); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// All of them name the file, and what to do where that is not plain: it cannot be read or made; it is no
    /// regular file ([`io::ErrorKind::InvalidInput`]), or not of 64 bytes, or a key in it is one byte over and over
    /// ([`io::ErrorKind::InvalidData`]); on Unix, group or others may read or change it ([`io::ErrorKind::PermissionDenied`]).
    pub fn load_or_create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        match load(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, &Self::from_seed(&random(path)?))
            }
            loaded => loaded,
        }
    }
}

/// The keys of a file that is there.
fn load(path: &Path) -> io::Result<PersistentKeys> {
    let unreadable = |error| about(path, "the keys cannot be read", error);
    // Before it is opened: a pipe would wait for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(refused(
            path,
            io::ErrorKind::InvalidInput,
            "it is no regular file; give the path of a file for the keys, which is made if there is none",
        ));
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    check_mode(path, &metadata)?;
    let length = metadata.len();
    if length != LENGTH as u64 {
        return Err(refused(
            path,
            io::ErrorKind::InvalidData,
            format_args!(
                "it has {length} bytes, and keys have {LENGTH}; if it is another file, give another path, and if \
                 it is damaged, remove it: new keys are then made"
            ),
        ));
    }
    let mut bytes = Zeroizing::new([0; LENGTH]);
    file.read_exact(&mut *bytes).map_err(unreadable)?;
    if bytes.chunks(LENGTH / 2).any(is_constant) {
        return Err(refused(
            path,
            io::ErrorKind::InvalidData,
            "it is damaged: a key in it is one byte over and over, which everybody knows; remove it: new keys are then made",
        ));
    }
    remove_first_name(path, &metadata);
    Ok(PersistentKeys::from_bytes(&bytes))
}

/// Whether a key is what a cut or a failing disk leaves, and no randomness.
fn is_constant(key: &[u8]) -> bool {
    key.windows(2)
        .all(|two| matches!(two, [one, other] if one == other))
}

/// Removes what a process that was killed has left of the name under which it wrote this file: see [`Unfinished`].
/// Nothing else, such as what another process is about to name, is touched, and it is no error if it cannot be done.
#[cfg(unix)]
fn remove_first_name(path: &Path, keys: &Metadata) {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    let Some(name) = path.file_name().filter(|_| keys.nlink() > 1) else {
        return;
    };
    let is_first_name = |other: &std::ffi::OsStr| {
        let number = other.as_bytes().strip_prefix(b".");
        let number = number.and_then(|rest| rest.strip_prefix(name.as_bytes())?.strip_prefix(b"."));
        number.is_some_and(|number| {
            number.len() == NUMBER_DIGITS && number.iter().all(u8::is_ascii_hexdigit)
        })
    };
    for entry in fs::read_dir(folder(path)).into_iter().flatten().flatten() {
        let is_the_same = |other: Metadata| (other.dev(), other.ino()) == (keys.dev(), keys.ino());
        if is_first_name(&entry.file_name()) && entry.metadata().is_ok_and(is_the_same) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(not(unix))]
fn remove_first_name(_: &Path, _: &Metadata) {}

/// Refuses a file that others than its owner may read, or change: they would know the keys.
#[cfg(unix)]
fn check_mode(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let mode = std::os::unix::fs::MetadataExt::mode(metadata) & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(refused(
        path,
        io::ErrorKind::PermissionDenied,
        format_args!(
            "others than its owner may read or change it (its mode is {mode:03o}); if somebody may have done so, \
             remove it: new keys are then made; otherwise 'chmod 600' it"
        ),
    ))
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Makes the file with these keys, unless there is one meanwhile: then with those of that one.
fn create(path: &Path, keys: &PersistentKeys) -> io::Result<PersistentKeys> {
    let unwritable = |error| about(path, "the keys cannot be written", error);
    let unfinished = Unfinished::beside(path)?;
    let mut file = recording::create(&unfinished.0).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => about(
            path,
            "its folder is not there, and has to be made first",
            error,
        ),
        _ => unwritable(error),
    })?;
    file.write_all(&*keys.to_bytes()).map_err(unwritable)?;
    // A name without its bytes would be a damaged file after a power cut.
    file.sync_all().map_err(unwritable)?;
    // Other than a renaming, this never takes the place of a file.
    match fs::hard_link(&unfinished.0, path) {
        Ok(()) => {
            keep_name(path);
            Ok(keys.clone())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            load(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => about(
                    path,
                    "it leads nowhere; if it is a symbolic link, remove it",
                    error,
                ),
                _ => error,
            })
        }
        Err(error) => {
            let what = "the keys cannot be written (it has to be where there are hard links)";
            Err(about(path, what, error))
        }
    }
}

/// A file that gets its name once it is whole; what is left of it is removed when this is dropped.
struct Unfinished(PathBuf);

impl Unfinished {
    /// In the same folder, and so on the same disk, under a name that nobody else has.
    fn beside(path: &Path) -> io::Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(refused(
                path,
                io::ErrorKind::InvalidInput,
                "it ends with no name of a file; give the path of a file for the keys",
            ));
        };
        let number = random(path)?.rng("unfinished", 0).next_u64();
        let mut unfinished = OsString::from(".");
        unfinished.push(name);
        unfinished.push(format!(".{number:0NUMBER_DIGITS$x}"));
        Ok(Self(path.with_file_name(unfinished)))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Should it stay, as after a kill, it is a file of keys that nobody has; or a second name of those that are
        // used, which `remove_first_name` removes when they are read next.
        let _ = fs::remove_file(&self.0);
    }
}

/// Has the disk keep the file's name. Should it be lost, there are new keys: no more than a restart noticed by silence.
fn keep_name(path: &Path) {
    #[cfg(unix)]
    {
        let folder = File::open(folder(path));
        let _ = folder.and_then(|folder| folder.sync_all());
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Where the file is.
#[cfg(unix)]
fn folder(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn random(path: &Path) -> io::Result<Seed> {
    random_seed().map_err(|error| about(path, "no keys can be made", error))
}

fn refused(path: &Path, kind: io::ErrorKind, why: impl Display) -> io::Error {
    io::Error::new(
        kind,
        format!("{} is not used for keys: {why}", path.display()),
    )
}

fn about(path: &Path, what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("trunkline-keys-{}-{name}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("server.keys")
        }

        /// What is in it.
        fn names(&self) -> Vec<OsString> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn bytes(path: &Path) -> Vec<u8> {
        PersistentKeys::load_or_create(path)
            .unwrap()
            .to_bytes()
            .to_vec()
    }

    /// Refused, in words that name the file and have these parts, and nothing has changed.
    #[track_caller]
    fn assert_refused(path: &Path, kind: io::ErrorKind, parts: &[&str]) {
        let before = fs::read(path).ok();
        let error = PersistentKeys::load_or_create(path).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        for part in [&*path.display().to_string()].iter().chain(parts) {
            assert!(text.contains(part), "no {part} in: {text}");
        }
        assert_eq!(fs::read(path).ok(), before);
    }

    #[test]
    fn the_first_process_makes_keys_and_the_next_finds_them() {
        let (folder, other) = (Folder::new("next"), Folder::new("other"));
        let made = bytes(&folder.file());
        assert_eq!(folder.names(), ["server.keys"]);
        assert_eq!(fs::read(folder.file()).unwrap(), made);
        assert_eq!(bytes(&folder.file()), made);
        assert_ne!(bytes(&other.file()), made, "each file has its own");
    }

    #[test]
    fn processes_that_start_at_once_have_the_same_keys() {
        const PROCESSES: usize = 2;
        for _ in 0..50 {
            let folder = Folder::new("race");
            let (start, file) = (Barrier::new(PROCESSES), folder.file());
            let found: Vec<_> = thread::scope(|scope| {
                let process = || {
                    start.wait();
                    bytes(&file)
                };
                let processes: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(process)).collect();
                processes
                    .into_iter()
                    .map(|one| one.join().unwrap())
                    .collect()
            });
            assert_eq!(found[0], found[1]);
            assert_eq!(fs::read(&file).unwrap(), found[0]);
            assert_eq!(folder.names(), ["server.keys"]);
        }
    }

    #[test]
    fn who_is_second_to_make_the_file_takes_the_first_one_s_keys() {
        let folder = Folder::new("second");
        let [first, second] = [1, 2].map(|byte| PersistentKeys::from_seed(&Seed::new([byte; 32])));
        // Both have found no file.
        for keys in [&first, &second] {
            let kept = create(&folder.file(), keys).unwrap();
            assert_eq!(kept.to_bytes(), first.to_bytes());
        }
        assert_eq!(folder.names(), ["server.keys"]);
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused_and_left_as_it_is() {
        let folder = Folder::new("other-length");
        let advice = ["64", "another path", "remove it"];
        for length in [0, 63, 65, 4_096] {
            let mut file = recording::create(&folder.file()).unwrap();
            file.write_all(&vec![7; length]).unwrap();
            let has = format!("{length} bytes");
            let parts = [&[&*has], &advice[..]].concat();
            assert_refused(&folder.file(), io::ErrorKind::InvalidData, &parts);
            fs::remove_file(folder.file()).unwrap();
        }
        assert_refused(&folder.0, io::ErrorKind::InvalidInput, &["regular file"]);
        let nameless = folder.0.join("missing/..");
        let error = PersistentKeys::load_or_create(&nameless).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        let lost = folder.0.join("missing/server.keys");
        assert_refused(&lost, io::ErrorKind::NotFound, &["folder", "made first"]);
        assert!(folder.names().is_empty());
    }

    /// What a power cut, or `truncate -s 64`, leaves of a file: keys that everybody knows.
    #[test]
    fn a_file_that_holds_no_randomness_is_refused() {
        let folder = Folder::new("constant");
        let keys = PersistentKeys::from_seed(&Seed::new([7; 32])).to_bytes();
        let half = |begin, byte| {
            let mut bytes = keys.to_vec();
            bytes[begin..begin + 32].fill(byte);
            bytes
        };
        let damaged = [
            vec![0; 64],
            vec![0xff; 64],
            half(0, 0),
            half(32, 0),
            half(32, 7),
        ];
        for bytes in damaged {
            let mut file = recording::create(&folder.file()).unwrap();
            file.write_all(&bytes).unwrap();
            let parts = ["damaged", "everybody", "remove it", "new keys"];
            assert_refused(&folder.file(), io::ErrorKind::InvalidData, &parts);
            fs::remove_file(folder.file()).unwrap();
        }
    }

    /// A process was killed between the two: the file had its name, and its first one as well.
    #[cfg(unix)]
    #[test]
    fn the_first_name_of_a_file_of_keys_goes_when_that_is_read() {
        let folder = Folder::new("stale");
        let made = bytes(&folder.file());
        let beside = |name: &str| folder.0.join(name);
        let stale = [
            ".server.keys.0123456789abcdef",
            ".server.keys.fedcba9876543210",
        ];
        // Not the same keys, or not a name that is given here.
        let kept = [".server.keys.00000000000000ff", ".server.keys.copy", "copy"];
        for name in stale.iter().chain(&kept[1..]) {
            fs::hard_link(folder.file(), beside(name)).unwrap();
        }
        fs::write(beside(kept[0]), b"of another process").unwrap();
        assert_eq!(bytes(&folder.file()), made);
        let mut names = folder.names();
        names.sort();
        assert_eq!(names, [kept[0], kept[1], kept[2], "server.keys"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_use_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = Folder::new("mode");
        let file = folder.file();
        let made = bytes(&file);
        let mode = |file| fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        for open in [0o640, 0o604, 0o620, 0o602, 0o644] {
            fs::set_permissions(&file, PermissionsExt::from_mode(open)).unwrap();
            let parts = [&*format!("mode is {open:o}"), "chmod 600", "remove it"];
            assert_refused(&file, io::ErrorKind::PermissionDenied, &parts);
        }
        // A secret store's file may be for reading alone, and behind a link.
        fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
        let link = folder.0.join("link");
        symlink("server.keys", &link).unwrap();
        assert_eq!(bytes(&link), made);
        fs::remove_file(&file).unwrap();
        assert_refused(
            &link,
            io::ErrorKind::NotFound,
            &["symbolic link", "remove it"],
        );
        assert_eq!(folder.names(), ["link"], "and nothing is made behind it");
    }
}
