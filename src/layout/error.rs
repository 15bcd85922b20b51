//! What can go wrong with layouts, archives and root filesystems on disk.

use std::io;
use std::path::Path;

use crate::kind::{Failure, Kind};
use crate::oci;

/// Why a layout, an archive or a root filesystem could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file, or the archive and its entry.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The archive ends before what it announces.
    #[error("{archive} is cut off in {entry}")]
    Truncated {
        /// The archive.
        archive: String,
        /// The entry, or the part of the archive, in which it ends.
        entry: String,
    },
    /// The bytes are not a tar, or not one that can be trusted.
    #[error("{archive} is not a usable tar: {reason}")]
    Tar {
        /// The archive.
        archive: String,
        /// What is wrong, naming the entry where there is one.
        reason: String,
    },
    /// An entry claims more bytes than the archive holds for it.
    #[error("entry {entry} of {archive} is a sparse file, which is not accepted")]
    Sparse {
        /// The archive.
        archive: String,
        /// The entry.
        entry: String,
    },
    /// Something is larger than a sane archive has it.
    #[error("{archive} has {what}")]
    Limit {
        /// The archive.
        archive: String,
        /// What there is too much of, and how much is taken.
        what: String,
    },
    /// A compression that is not supported.
    #[error("{archive} is compressed with {format}, which is not supported")]
    Compression {
        /// The archive.
        archive: String,
        /// The format's name.
        format: &'static str,
    },
    /// Neither a Docker archive nor an OCI layout.
    #[error("{path} is no image archive: it has neither index.json with oci-layout nor manifest.json")]
    NoArchive {
        /// The archive.
        path: String,
    },
    /// The folder is no OCI layout.
    #[error("{path} is no OCI image layout: {reason}")]
    NoLayout {
        /// The folder.
        path: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// A document is not what its place promises.
    #[error("{document} cannot be used: {reason}")]
    Document {
        /// The document with the archive or folder that it is in.
        document: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that others point to is not there.
    #[error("{path} has no {what}")]
    Missing {
        /// The archive or folder.
        path: String,
        /// What is missing, by name or digest.
        what: String,
    },
    /// No image there has the name or digest asked for.
    #[error("{path} has no image {wanted}")]
    NoImage {
        /// The archive or folder.
        path: String,
        /// The name or digest asked for.
        wanted: String,
        /// The names there are.
        present: Vec<String>,
    },
    /// There are several images, and none was named.
    #[error("{path} has {} images, and none was named", .present.len())]
    Ambiguous {
        /// The archive or folder.
        path: String,
        /// The names, or digests where there is no name.
        present: Vec<String>,
    },
    /// A digest, document or name is wrong.
    #[error("{path}: {source}")]
    Oci {
        /// The archive or folder.
        path: String,
        /// What is wrong.
        source: oci::Error,
    },
    /// A file of a root filesystem was changed while it was read.
    #[error("{path} changed while it was read: it had {expected} bytes, then {actual}")]
    Changed {
        /// The file.
        path: String,
        /// Its length when it was listed.
        expected: u64,
        /// How many bytes there were.
        actual: u64,
    },
    /// The archive is closed already.
    #[error("{path} is complete and takes no more content")]
    Closed {
        /// The archive.
        path: String,
    },
    /// Bytes would go to a terminal.
    #[error("{path} is a terminal, which an archive is not written to")]
    Terminal {
        /// Its path.
        path: String,
    },
    /// A worker thread ended without an answer.
    #[error("the worker that reads or writes {path} ended early")]
    Worker {
        /// The file it worked on.
        path: String,
    },
}

/// What the functions of this layer return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps what the system said of a file.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().display().to_string(), source }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Kind::Integrity,
                _ => Kind::of_io(source).unwrap_or(Kind::Unavailable),
            },
            Self::Truncated { .. }
            | Self::Tar { .. }
            | Self::Sparse { .. }
            | Self::Limit { .. }
            | Self::Document { .. } => Kind::Integrity,
            Self::Compression { .. }
            | Self::NoArchive { .. }
            | Self::NoLayout { .. }
            | Self::Ambiguous { .. }
            | Self::Terminal { .. } => Kind::Usage,
            Self::Missing { .. } | Self::NoImage { .. } => Kind::NotFound,
            Self::Oci { source, .. } => source.kind(),
            Self::Changed { .. } | Self::Closed { .. } => Kind::Conflict,
            Self::Worker { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } if self.kind() == Kind::NoSpace => {
                Some("make room there, or name a folder on another file system".into())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Some("name a folder on another file system; this one is mounted read-only".into())
            }
            Self::Truncated { .. } => Some("copy or make the archive again; its end is missing".into()),
            Self::Sparse { .. } => Some("make the archive again with a tar that writes files out (no --sparse)".into()),
            Self::Compression { .. } => Some("decompress it first; gzip and zstd are read as they are".into()),
            Self::NoArchive { .. } => Some(
                "docker save, ctr images export and ctrsh save make archives; a root filesystem is from_rootfs's"
                    .into(),
            ),
            Self::NoImage { present, .. } if !present.is_empty() => Some(format!("it has {}", present.join(", "))),
            Self::Ambiguous { present, .. } => Some(format!("name one of {}", present.join(", "))),
            Self::Missing { .. } => {
                Some("the archive may hold only some platforms of the image; name one that it has".into())
            }
            Self::Terminal { .. } => Some("name a file, or send it on with a pipe".into()),
            Self::Oci { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// A disk does not mend itself within the budget of a retry.
    fn retryable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_space() {
        for code in [28, 122] {
            let error = Error::io("write", "/data/out.tar", io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), Kind::NoSpace);
            assert_eq!(error.to_string(), "cannot write /data/out.tar");
            assert!(error.hint().unwrap().contains("make room"));
        }
    }

    #[test]
    fn a_disk_that_takes_no_changes_is_named() {
        let error = Error::io("write", "/data/out.tar", io::Error::from_raw_os_error(30));
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.hint().unwrap().contains("read-only"));
    }
}
