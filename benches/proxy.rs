//! A registry far away: what is sent to it arrives later.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How much is on its way in one connection, in pieces of 64 KiB: 4 MiB.
const PIECES: usize = 64;

/// Listens in front of an address, and returns where. Each request takes that much longer, and so does each new
/// connection; connections do not wait for each other, and what is under way fills them as it would a long line. Ends
/// with the process.
pub fn delay(to: SocketAddr, by: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                // A connection that breaks is the client's to notice.
                tokio::spawn(async move { connect(client, to, by).await.unwrap_or_default() });
            }
        });
    });
    address
}

async fn connect(client: TcpStream, to: SocketAddr, by: Duration) -> std::io::Result<()> {
    tokio::time::sleep(by).await;
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut requests, mut answered) = client.into_split();
    let (mut answers, mut asked) = server.into_split();
    let (sender, mut late) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    tokio::spawn(async move {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = requests.read(&mut piece).await {
            if sender.send((Instant::now() + by, piece[..length].to_vec())).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, piece)) = late.recv().await {
            tokio::time::sleep_until(due).await;
            if asked.write_all(&piece).await.is_err() {
                break;
            }
        }
        asked.shutdown().await.unwrap_or_default();
    });
    tokio::io::copy(&mut answers, &mut answered).await?;
    answered.shutdown().await
}
