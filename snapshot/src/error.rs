//! What can go wrong on the object store, in words that name the object and repeat what the service said.

use std::error::Error as StdError;
use std::io;

use crate::manifest::ManifestError;

/// An error of the object store or of what lies on it. The text names the URL.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a URL that Weir can store to.
    #[error("'{url}' cannot be used as a storage location: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// There is no such object.
    #[error("{url} does not exist")]
    NotFound {
        /// The object.
        url: String,
    },
    /// The local disk is full.
    #[error("cannot {action} {url}: no space left on device")]
    NoSpace {
        /// "write", "read" ...
        action: &'static str,
        /// The object.
        url: String,
    },
    /// The store did not answer in time.
    #[error("cannot {action} {url}: no answer within {seconds} s")]
    Timeout {
        /// "write", "read" ...
        action: &'static str,
        /// The object.
        url: String,
        /// How long was waited, retries included.
        seconds: u64,
    },
    /// The store refused or failed.
    #[error("cannot {action} {url}: {message}")]
    Store {
        /// "write", "read" ...
        action: &'static str,
        /// The object.
        url: String,
        /// The service's own words.
        message: String,
    },
    /// The object is not what the manifest says.
    #[error("{url} is damaged: {reason}")]
    Damaged {
        /// The object.
        url: String,
        /// Size or checksum, expected and found.
        reason: String,
    },
    /// The object is no manifest that this version can read.
    #[error("{url}: {source}")]
    Manifest {
        /// The manifest.
        url: String,
        /// Why.
        source: ManifestError,
    },
    /// A file of this machine that is to be uploaded or was to be downloaded.
    #[error("{context}: {source}")]
    Local {
        /// What was attempted, with the path.
        context: String,
        /// The system's error.
        source: io::Error,
    },
}

impl SnapshotError {
    /// The object is not there, is damaged, or is no manifest: waiting won't bring it back. False for everything that
    /// may be a passing trouble of the store.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::Damaged { .. } => true,
            Self::Manifest { source, .. } => !matches!(source, ManifestError::NewerVersion { .. }),
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, url: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound if action != "write" => Self::NotFound {
                url: url.to_owned(),
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace {
                action,
                url: url.to_owned(),
            },
            _ => Self::Store {
                action,
                url: url.to_owned(),
                message: error.to_string(),
            },
        }
    }

    pub(crate) fn store(action: &'static str, url: &str, error: object_store::Error) -> Self {
        let message = service_words(&error);
        // A missing bucket is a wrong setting, not a missing object.
        let no_bucket = message.starts_with("NoSuchBucket");
        if matches!(error, object_store::Error::NotFound { .. }) && action != "write" && !no_bucket
        {
            return Self::NotFound {
                url: url.to_owned(),
            };
        }
        if let Some(io) = io_cause(&error)
            && matches!(
                io.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        {
            return Self::NoSpace {
                action,
                url: url.to_owned(),
            };
        }
        Self::Store {
            action,
            url: url.to_owned(),
            message,
        }
    }
}

fn io_cause(error: &object_store::Error) -> Option<&io::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// S3's answer is XML inside of the client's text: its code and message say all that helps.
fn service_words(error: &object_store::Error) -> String {
    let text = error.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (inside, _) = rest.split_once(&format!("</{name}>"))?;
        Some(inside.trim().to_owned())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code,
        _ => {
            let words = match text.split_once("error: ") {
                Some((head, tail)) if head.starts_with("Generic ") => tail.to_owned(),
                _ => text,
            };
            with_root_cause(words, error)
        }
    }
}

/// "error sending request" alone does not tell a refused connection from an unknown host.
fn with_root_cause(words: String, error: &object_store::Error) -> String {
    let mut cause = error.source();
    let mut root = None;
    while let Some(error) = cause {
        root = Some(error.to_string());
        cause = error.source();
    }
    match root {
        Some(root) if !words.contains(&root) => format!("{}: {root}", words.trim_end()),
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_s3_is_reduced_to_its_code_and_message() {
        let body = "Error performing PUT http://h/b/k in 3ms - Server returned non-2xx status code: 403 Forbidden: \
                    <?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
        let error = object_store::Error::Generic {
            store: "S3",
            source: body.into(),
        };
        let shown = SnapshotError::store("write", "s3://b/k", error).to_string();
        assert_eq!(shown, "cannot write s3://b/k: AccessDenied: Access Denied.");
    }

    #[test]
    fn a_missing_bucket_is_no_damage() {
        for (code, damage) in [("NoSuchBucket", false), ("NoSuchKey", true)] {
            let error = object_store::Error::NotFound {
                path: "k".to_owned(),
                source: format!("404: <Code>{code}</Code><Message>No.</Message>").into(),
            };
            assert_eq!(
                SnapshotError::store("read", "s3://b/k", error).is_damage(),
                damage
            );
        }
    }

    #[test]
    fn a_full_disk_is_said_so() {
        let error = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        let shown = SnapshotError::store("write", "file:///x", error).to_string();
        assert_eq!(shown, "cannot write file:///x: no space left on device");
    }
}
