//! What is in the product's image: the one list, which the `Dockerfile` repeats and a test compares.
//!
//! The program is linked dynamically, so the libraries it names come with it, at the places where the loader looks
//! for them; and the certificates by which it trusts HTTPS endpoints. Links make it every program it is.

use std::path::{Path, PathBuf};

/// A name in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Absolute path in the image.
    pub(crate) at: String,
    /// What is there.
    pub(crate) source: Source,
}

/// What a name in an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The content of a file of the host.
    File(PathBuf),
    /// A symbolic link.
    Link(&'static str),
}

/// The number of a user who owns nothing.
pub(crate) const USER: &str = "65532:65532";

/// The names under which the program is called, each a link to [`PROGRAM`].
pub(crate) const LINKS: [&str; 4] = ["/daprd", "/injector", "/operator", "/sentry"];

/// The one binary.
pub(crate) const PROGRAM: &str = "/ironside";

/// Certificates of public authorities.
pub(crate) const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Libraries beside the loader.
pub(crate) const LIBRARIES: [&str; 3] = ["libc.so.6", "libgcc_s.so.1", "libm.so.6"];

/// The loader of this machine's programs and the folder of its libraries.
pub(crate) fn loader() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "aarch64" => ("/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
        _ => ("/lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    }
}

/// Loader, libraries and certificates: what every program of ours needs.
pub(crate) fn surroundings() -> Vec<Entry> {
    let (loader, triplet) = loader();
    let libraries = LIBRARIES.map(|library| format!("/lib/{triplet}/{library}"));
    [loader.to_owned(), AUTHORITIES.to_owned()]
        .into_iter()
        .chain(libraries)
        .map(|at| Entry {
            source: Source::File(PathBuf::from(&at)),
            at,
        })
        .collect()
}

/// The product's image, with the binary `program`.
pub(crate) fn product(program: &Path) -> Vec<Entry> {
    let mut entries = surroundings();
    entries.push(Entry {
        at: PROGRAM.to_owned(),
        source: Source::File(program.to_path_buf()),
    });
    let link = |at: &str| Entry {
        at: at.to_owned(),
        source: Source::Link(PROGRAM),
    };
    entries.extend(LINKS.map(link));
    entries
}

#[cfg(test)]
mod tests;
