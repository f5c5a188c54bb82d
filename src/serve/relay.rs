//! The way from a container's loopback to the socket that it was given.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CONNECTIONS: usize = 128;
/// As long as the server on the other side gives a head, a body and an answer, and a little.
const TIME: Duration = Duration::from_secs(80);
const PAUSE: Duration = Duration::from_millis(50);

/// Passes every connection on to the socket, byte for byte: it knows no secret and checks none.
pub(crate) async fn relay(listener: TcpListener, socket: PathBuf) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let socket = Arc::new(socket);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if places.available_permits() > 0 => match accepted {
                Ok((stream, _)) => {
                    let place = Arc::clone(&places).try_acquire_owned();
                    let socket = Arc::clone(&socket);
                    connections.spawn(async move {
                        let _place = place;
                        pass_on(stream, &socket).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn pass_on(mut stream: TcpStream, socket: &PathBuf) {
    let passing = async {
        let mut server = UnixStream::connect(socket).await?;
        copy_bidirectional(&mut stream, &mut server).await
    };
    match timeout(TIME, passing).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, socket = %socket.display(), "a connection was not passed on");
        }
        Err(_) => tracing::debug!("a connection took too long"),
    }
}
