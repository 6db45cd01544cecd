//! A slow line to a PostgreSQL server on this machine: a TCP proxy that lets so many bytes a second
//! through towards it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Budget is given this often.
const TICK: Duration = Duration::from_millis(10);
const BUFFER: usize = 16 * 1024;

pub(crate) struct Throttle {
    port: u16,
    bytes: Arc<AtomicU64>,
    tasks: [JoinHandle<()>; 2],
}

impl Throttle {
    /// A line to the server of `url`, for all its connections together.
    pub(crate) async fn start(url: &str, bytes_per_second: u64) -> Self {
        let target = address(url);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let budget = Arc::new(Semaphore::new(0));
        let bytes = Arc::new(AtomicU64::new(0));
        let per_tick = usize::try_from(bytes_per_second / 100).unwrap().max(BUFFER);
        let filled = Arc::clone(&budget);
        let fill = tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            loop {
                tick.tick().await;
                // What was not used does not add up.
                if filled.available_permits() < 2 * per_tick {
                    filled.add_permits(per_tick);
                }
            }
        });
        let passed = Arc::clone(&bytes);
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                let (budget, passed) = (Arc::clone(&budget), Arc::clone(&passed));
                tokio::spawn(pass(client, server, budget, passed));
            }
        });
        Self {
            port,
            bytes,
            tasks: [fill, accept],
        }
    }

    /// `url` by way of the line.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replacen(&address(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// Sent towards the server so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// `host:port` of a connection URL.
fn address(url: &str) -> String {
    let (_, rest) = url.rsplit_once('@').unwrap();
    rest.split('/').next().unwrap().to_owned()
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    budget: Arc<Semaphore>,
    passed: Arc<AtomicU64>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = async { tokio::io::copy(&mut from_server, &mut to_client).await };
    let there = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                return to_server.shutdown().await;
            }
            let permits = u32::try_from(read).unwrap();
            budget.acquire_many(permits).await.unwrap().forget();
            passed.fetch_add(u64::from(permits), Ordering::Relaxed);
            to_server.write_all(&buffer[..read]).await?;
        }
    };
    // An end on either side ends the connection.
    tokio::select! {
        _ = back => {}
        _ = there => {}
    }
}
