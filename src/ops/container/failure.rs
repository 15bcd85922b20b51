//! What the runtime's own words mean: runc answers with one text for everything that can go wrong.

use std::time::Duration;

use super::get::not_running;
use crate::containerd::{self, Client};
use crate::ops::Error;

/// How long the end of a container may take to be noticed, when a process could not be put into it.
const UNNOTICED: Duration = Duration::from_secs(1);

/// What follows the program's name when it is not there (Go's os/exec and runc's libcontainer).
const ABSENT: [&str; 2] = ["no such file or directory", "executable file not found in $PATH"];
/// What follows it when it may not be executed.
const NOT_EXECUTABLE: [&str; 3] = ["permission denied", "exec format error", "is a directory"];

/// Says why a process could not be started, when it was the program.
pub(super) fn of_start(error: containerd::Error) -> Error {
    program(&error.to_string()).unwrap_or_else(|| error.into())
}

/// Says why a process could not be started in a container, which may have ended meanwhile.
pub(super) async fn of_exec(client: &Client, id: &str, error: containerd::Error) -> Error {
    if let Some(known) = program(&error.to_string()) {
        return known;
    }
    match tokio::time::timeout(UNNOTICED, client.tasks().wait(id, "")).await {
        Ok(Ok(_)) => not_running(id),
        Ok(Err(gone)) if gone.is_not_found() => not_running(id),
        _ => error.into(),
    }
}

/// Finds the program in `… exec: "PROGRAM": WHY`.
fn program(text: &str) -> Option<Error> {
    let (_, rest) = text.rsplit_once("exec: \"")?;
    let (name, why) = rest.split_once("\": ")?;
    let name = name.replace("\\\"", "\"");
    if ABSENT.iter().any(|words| why.contains(words)) {
        return Some(Error::NotFound {
            what: "program in the container",
            cure: Some(match name.contains(' ') {
                true => {
                    "a command is its words, [\"ls\", \"-l\"]; a shell takes a line: [\"sh\", \"-c\", \"ls -l\"]".into()
                }
                false => "a path is looked for in the container's root filesystem, a name in its PATH".into(),
            }),
            name,
            nearest: None,
        });
    }
    let words = NOT_EXECUTABLE.iter().find(|words| why.contains(*words))?;
    Some(Error::Conflict {
        what: "program",
        name,
        state: format!("cannot be executed in the container: {words}"),
        cure: Some("it has to be a file with an x bit, made for this platform".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Failure, Kind};

    #[test]
    fn the_program_is_named() {
        let text = "start task life: OCI runtime exec failed: exec failed: unable to start container process: exec: \
                    \"/no/such\": stat /no/such: no such file or directory: unknown";
        let error = program(text).unwrap();
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::NotFound, "no such program in the container: /no/such".into())
        );
        let error = program("create failed: exec: \"sh\": executable file not found in $PATH: unknown").unwrap();
        assert_eq!(error.kind(), Kind::NotFound);
        let error = program("exec: \"ls \\\"-l\\\"\": executable file not found in $PATH: unknown").unwrap();
        assert_eq!(error.to_string(), "no such program in the container: ls \"-l\"");
        assert!(error.hint().unwrap().starts_with("a command is its words"));
        let error = program("exec: \"/etc\": permission denied: unknown").unwrap();
        assert_eq!(error.to_string(), "program /etc cannot be executed in the container: permission denied");
        assert!(program("exec failed: unable to create new parent process: namespace path: lstat /proc/1/ns/ipc: no such file or directory").is_none());
    }
}
