//! What a program was built from.

/// What a program was built from: another build may compute another thing from the same inputs,
/// for the standard library rounds and the dependencies decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// This crate's version.
    pub version: String,
    /// The compiler, as it names itself.
    pub rustc: String,
    /// The target triple.
    pub target: String,
    /// A hash (FNV-1a) of the Cargo.lock that was beside the program's target directory;
    /// `unknown` if there was none.
    pub lock: String,
}

impl Build {
    /// This program's.
    pub fn own() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            rustc: env!("TRUNKLINE_BUILD_RUSTC").into(),
            target: env!("TRUNKLINE_BUILD_TARGET").into(),
            lock: env!("TRUNKLINE_BUILD_LOCK").into(),
        }
    }

    /// In what the two differ: what it is, this one's, and the other's.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<(&'static str, &'a str, &'a str)> {
        [
            ("trunkline-core", &self.version, &other.version),
            ("rustc", &self.rustc, &other.rustc),
            ("target", &self.target, &other.target),
            ("Cargo.lock", &self.lock, &other.lock),
        ]
        .into_iter()
        .filter(|(_, own, others)| own != others)
        .map(|(what, own, others)| (what, own.as_str(), others.as_str()))
        .collect()
    }

    /// The same in words, a line for each; nothing if there is no difference.
    pub fn differences_in_words(&self, other: &Self) -> String {
        let differences = self.differences(other).into_iter();
        let line = |(what, own, others): (_, _, &str)| {
            let others = others.escape_debug();
            format!("another build: {what} is {own}, and was {others}\n")
        };
        differences.map(line).collect()
    }
}
