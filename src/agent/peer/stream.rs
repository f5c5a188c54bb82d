//! A connection that is used before it is waited for: most clients have sent all that they ask by the
//! time they are let in, and the runtime is told of a connection only when there is something to wait
//! for.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::unix::net;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::bounded_http::is_attempt;

#[derive(Debug)]
pub(in super::super) struct EagerStream(State);

#[derive(Debug)]
enum State {
    Fresh {
        stream: net::UnixStream,
        has_asked: bool,
    },
    Waited(UnixStream),
    /// The runtime could not take it.
    Lost,
}

impl EagerStream {
    /// Of a connection that does not block.
    pub(super) const fn new(stream: net::UnixStream) -> Self {
        Self(State::Fresh { stream, has_asked: false })
    }

    /// Does at once what can be; `None` if the runtime has to wait for when it can.
    fn now<T>(
        &mut self,
        mut act: impl FnMut(&mut net::UnixStream) -> io::Result<T>,
    ) -> Option<Poll<io::Result<T>>> {
        let State::Fresh { stream, .. } = &mut self.0 else { return None };
        loop {
            match act(stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                done => return Some(Poll::Ready(done)),
            }
        }
        is_attempt().then_some(Poll::Pending)
    }

    fn waited(&mut self) -> io::Result<Pin<&mut UnixStream>> {
        if matches!(self.0, State::Fresh { .. })
            && let State::Fresh { stream, .. } = std::mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Waited(UnixStream::from_std(stream)?);
        }
        match &mut self.0 {
            State::Waited(stream) => Ok(Pin::new(stream)),
            State::Fresh { .. } | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for EagerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if is_attempt() && matches!(this.0, State::Fresh { has_asked: true, .. }) {
            // It waits for its answer. If there is more to read, it is read by whoever waits.
            return Poll::Pending;
        }
        let read = this.now(|stream| stream.read(into.initialize_unfilled()));
        if let (Some(Poll::Ready(Ok(_))), State::Fresh { has_asked, .. }) = (&read, &mut this.0) {
            *has_asked = true;
        }
        match read {
            Some(read) => read.map_ok(|read| into.advance(read)),
            None => this.waited()?.poll_read(context, into),
        }
    }
}

impl AsyncWrite for EagerStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.now(|stream| stream.write(bytes)) {
            Some(written) => written,
            None => this.waited()?.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.now(|stream| stream.write_vectored(parts)) {
            Some(written) => written,
            None => this.waited()?.poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Whoever shuts it down drops it next, which tells the other end as much.
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::bounded_http::is_done_now;

    fn pair() -> (EagerStream, net::UnixStream) {
        let (ours, theirs) = net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (EagerStream::new(ours), theirs)
    }

    /// There is no runtime here, so nothing can be told to it.
    #[test]
    fn what_is_there_is_taken_and_given_without_a_runtime() {
        let (mut ours, mut theirs) = pair();
        let mut asked = [0; 8];
        assert!(!is_done_now(pin!(async { drop(ours.read(&mut asked).await) })), "nothing was sent");
        theirs.write_all(b"ask").unwrap();
        assert!(is_done_now(pin!(async { assert_eq!(ours.read(&mut asked).await.unwrap(), 3) })));
        assert!(asked.starts_with(b"ask"));
        theirs.write_all(b"more").unwrap();
        assert!(!is_done_now(pin!(async { drop(ours.read(&mut asked).await) })), "it has asked");

        let parts = [IoSlice::new(b"ans"), IoSlice::new(b"wer")];
        assert!(is_done_now(pin!(async { assert_eq!(ours.write_vectored(&parts).await.unwrap(), 6) })));
        let more = vec![0; 1 << 20];
        assert!(!is_done_now(pin!(async { ours.write_all(&more).await.unwrap() })), "there is no room");
        let mut answer = [0; 6];
        theirs.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }

    #[tokio::test]
    async fn what_is_not_there_yet_is_waited_for() {
        let (mut ours, theirs) = pair();
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = EagerStream::new(theirs);
        let sent = vec![7; 1 << 20];
        let give = async {
            ours.write_all(&sent).await.unwrap();
            ours.read_u8().await.unwrap()
        };
        let take = async {
            tokio::task::yield_now().await;
            let mut got = vec![0; sent.len()];
            theirs.read_exact(&mut got).await.unwrap();
            theirs.write_u8(9).await.unwrap();
            got
        };
        let (answer, got) = tokio::join!(give, take);
        assert!((answer, got) == (9, sent));
        drop(ours);
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
