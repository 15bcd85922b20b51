//! A docker-registry of one test's own, which it may kill and start again on the same port and files.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::{INDEX, MANIFEST};
use super::process::Server;

/// A running registry; dropping it kills it.
pub struct Registry {
    folder: PathBuf,
    host: String,
    server: Server,
}

impl Registry {
    /// Starts one whose images lie in the folder's `data`.
    pub fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("data")).unwrap();
        // The port is free again when this returns, and stays the registry's from then on.
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {:?} }} }}\n\
             http: {{ addr: \"{host}\" }}\n",
            folder.join("data")
        );
        std::fs::write(folder.join("registry.yml"), config).unwrap();
        let mut registry = Self { folder: folder.to_owned(), host, server: Server::new("docker-registry") };
        registry.run();
        registry
    }

    fn run(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.folder.join("registry.yml")).stderr(log);
        let host = &self.host;
        self.server.start(&mut command, || get(host, "/v2/").is_ok_and(|answer| answer.starts_with(b"HTTP/1.0 200")));
    }

    /// Returns the bytes that a tag points to.
    pub fn manifest(&self, repository: &str, tag: &str) -> Vec<u8> {
        let answer = get(&self.host, &format!("/v2/{repository}/manifests/{tag}")).unwrap();
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer));
        answer[head + 4..].to_vec()
    }

    /// Kills it without a chance to clean up.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Kills it and starts it again on the same port and files.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Returns its name in references: `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// Asks for a path, and returns the whole answer.
fn get(host: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(host)?;
    let accept = [INDEX, MANIFEST].join(", ");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
