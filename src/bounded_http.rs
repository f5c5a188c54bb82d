//! An HTTP/1.1 server that no client can hold up: everything it takes in is bounded in size, number
//! and time, and whoever only sits there makes room for whoever asks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A whole answer.
pub(crate) type Response = hyper::Response<Full<Bytes>>;

/// Where connections come from.
pub(crate) trait Listener: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Who is at its other end.
    type Peer: Peer;

    /// The next connection of somebody who may ask.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

/// Who is at the other end of a connection.
pub(crate) trait Peer: Clone + Send + Sync + 'static {
    /// What all connections of one program have in common.
    type Program: Clone + Eq + Hash + Send;

    /// The program that shares one quota.
    fn program(&self) -> Self::Program;
}

/// What answers requests. It may take its time: it holds up nobody but the one who asked.
pub(crate) trait Handler<P>: Send + Sync + 'static {
    /// Answers one request, whose body is all there.
    fn handle(&self, peer: &P, request: Request<Bytes>) -> impl Future<Output = Response> + Send;

    /// The answer to a request that cannot be handled: the status says why.
    fn refuse(&self, status: StatusCode) -> Response;
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a body.
    pub(crate) body: usize,
    /// Bytes of the request line with all headers.
    pub(crate) head: usize,
    /// Number of headers.
    pub(crate) headers: usize,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Of them, those of one program.
    pub(crate) connections_of_a_program: usize,
    /// How long a connection may take to bring a whole request, or to take a whole answer.
    pub(crate) patience: Duration,
    /// How long requests may go on once the server is told to stop.
    pub(crate) farewell: Duration,
}

/// What became of connections.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Open now.
    pub(crate) open: AtomicU64,
    /// Closed to make room, or because nothing came over them.
    pub(crate) evicted: AtomicU64,
    /// Requests whose handler panicked.
    pub(crate) panics: AtomicU64,
}

/// Serves until `stop` says true, and then until the last request is answered.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    limits: Limits,
    handler: Arc<impl Handler<L::Peer>>,
    traffic: Arc<Traffic>,
    mut stop: watch::Receiver<bool>,
) {
    let table = Arc::new(Table::<<L::Peer as Peer>::Program>::new(limits, Arc::clone(&traffic)));
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stop) => break,
            accepted = async {
                table.has_room().await;
                listener.accept().await
            } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let place = table.take_place(peer.program());
                tokio::spawn(attend(stream, peer, place, limits, Arc::clone(&handler), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                table.evict_one();
                sleep(Duration::from_millis(20)).await;
            }
        }
        // Whoever has sent a request by now is busy before the next one comes in.
        tokio::task::yield_now().await;
    }
    drop(listener);
    let gone = async {
        while traffic.open.load(Ordering::SeqCst) > 0 {
            table.left.notified().await;
        }
    };
    timeout(limits.farewell, gone).await.ok();
}

/// Waits until it is time to stop, which it also is when nobody is left to say so.
async fn told(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// Everybody who is connected.
struct Table<K> {
    limits: Limits,
    traffic: Arc<Traffic>,
    seats: Mutex<Seats<K>>,
    /// Somebody left, or is no longer busy.
    left: Notify,
}

struct Seats<K> {
    next: u64,
    by_number: HashMap<u64, Seat<K>>,
}

struct Seat<K> {
    program: K,
    state: Arc<SeatState>,
}

#[derive(Default)]
struct SeatState {
    /// A request is being answered.
    busy: AtomicBool,
    /// When this connection last did something, counted in things that happened.
    active: AtomicU64,
    leave: Notify,
}

impl<K: Clone + Eq + Hash + Send> Table<K> {
    fn new(limits: Limits, traffic: Arc<Traffic>) -> Self {
        let seats = Seats { next: 0, by_number: HashMap::new() };
        Self { limits, traffic, seats: Mutex::new(seats), left: Notify::new() }
    }

    /// Waits until somebody may come in, sending away whoever has been idle the longest: long only
    /// when every request that is here is being answered.
    async fn has_room(&self) {
        loop {
            let left = self.left.notified();
            if self.is_free() || self.evict_one() {
                return;
            }
            left.await;
        }
    }

    fn is_free(&self) -> bool {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.by_number.len() < self.limits.connections
    }

    fn evict_one(&self) -> bool {
        self.evict(|_| true)
    }

    /// Sends away the one that has been idle the longest among those that fit.
    fn evict(&self, fits: impl Fn(&K) -> bool) -> bool {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = seats
            .by_number
            .iter()
            .filter(|(_, seat)| fits(&seat.program) && !seat.state.busy.load(Ordering::SeqCst));
        let oldest = idle.min_by_key(|(_, seat)| seat.state.active.load(Ordering::SeqCst));
        let Some(number) = oldest.map(|(number, _)| *number) else { return false };
        if let Some(seat) = seats.by_number.remove(&number) {
            seat.state.leave.notify_one();
            self.traffic.evicted.fetch_add(1, Ordering::SeqCst);
        }
        true
    }

    /// A place for a connection of the program, which gives up an idle one of its own if it has too
    /// many. If all of those are busy there is no place.
    fn take_place(self: &Arc<Self>, program: K) -> Place<K> {
        let count = {
            let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
            seats.by_number.values().filter(|seat| seat.program == program).count()
        };
        let refused = count >= self.limits.connections_of_a_program && !self.evict(|other| *other == program);
        let state = Arc::new(SeatState::default());
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.next += 1;
        let number = seats.next;
        state.active.store(number, Ordering::SeqCst);
        if !refused {
            seats.by_number.insert(number, Seat { program, state: Arc::clone(&state) });
        }
        self.traffic.open.fetch_add(1, Ordering::SeqCst);
        Place { table: Arc::clone(self), number, state, refused }
    }
}

/// One connection's place; given up when dropped.
struct Place<K: Clone + Eq + Hash + Send> {
    table: Arc<Table<K>>,
    number: u64,
    state: Arc<SeatState>,
    /// The program has too many connections that are all busy.
    refused: bool,
}

impl<K: Clone + Eq + Hash + Send> Place<K> {
    /// A request is all there and is being answered until the guard is dropped.
    fn busy(&self) -> Busy<'_, K> {
        self.state.busy.store(true, Ordering::SeqCst);
        Busy(self)
    }

    fn is_busy(&self) -> bool {
        self.state.busy.load(Ordering::SeqCst)
    }
}

impl<K: Clone + Eq + Hash + Send> Drop for Place<K> {
    fn drop(&mut self) {
        self.table.seats.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&self.number);
        self.table.traffic.open.fetch_sub(1, Ordering::SeqCst);
        self.table.left.notify_waiters();
    }
}

struct Busy<'a, K: Clone + Eq + Hash + Send>(&'a Place<K>);

impl<K: Clone + Eq + Hash + Send> Drop for Busy<'_, K> {
    fn drop(&mut self) {
        let Place { table, state, .. } = self.0;
        let mut seats = table.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.next += 1;
        state.active.store(seats.next, Ordering::SeqCst);
        state.busy.store(false, Ordering::SeqCst);
        drop(seats);
        table.left.notify_waiters();
    }
}

/// One connection, until it ends, has to make room, or brings nothing for too long.
async fn attend<S, P: Peer>(
    stream: S,
    peer: P,
    place: Place<P::Program>,
    limits: Limits,
    handler: Arc<impl Handler<P>>,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request| {
        let (place, peer, handler) = (&place, &peer, &handler);
        async move { Ok::<_, Infallible>(answer(request, peer, place, limits, handler.as_ref()).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_buf_size(limits.head)
            .max_headers(limits.headers)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut idle_until = pin!(sleep_until(Instant::now() + limits.patience));
    let mut seen = place.state.active.load(Ordering::SeqCst);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => break,
            () = place.state.leave.notified(), if !place.is_busy() => break,
            () = idle_until.as_mut() => {
                let active = place.state.active.load(Ordering::SeqCst);
                if active == seen && !place.is_busy() {
                    place.table.traffic.evicted.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                seen = active;
                idle_until.as_mut().reset(Instant::now() + limits.patience);
            }
            () = told(&mut stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer<P: Peer>(
    request: Request<Incoming>,
    peer: &P,
    place: &Place<P::Program>,
    limits: Limits,
    handler: &impl Handler<P>,
) -> Response {
    if place.refused {
        return closing(handler.refuse(StatusCode::SERVICE_UNAVAILABLE));
    }
    let (head, body) = request.into_parts();
    let body = match timeout(limits.patience, Limited::new(body, limits.body).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return closing(handler.refuse(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(Err(_)) => return closing(handler.refuse(StatusCode::BAD_REQUEST)),
        Err(_) => return closing(handler.refuse(StatusCode::REQUEST_TIMEOUT)),
    };
    let _busy = place.busy();
    let handled = AssertUnwindSafe(handler.handle(peer, Request::from_parts(head, body))).catch_unwind();
    handled.await.unwrap_or_else(|_| {
        place.table.traffic.panics.fetch_add(1, Ordering::SeqCst);
        handler.refuse(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

/// What is left of such a request is not worth reading.
fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(hyper::header::CONNECTION, hyper::header::HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;

    use super::*;

    const LIMITS: Limits = Limits {
        body: 64,
        head: 8192,
        headers: 8,
        connections: 4,
        connections_of_a_program: 3,
        patience: Duration::from_secs(10),
        farewell: Duration::from_secs(10),
    };

    #[derive(Clone)]
    struct Program(&'static str);

    impl Peer for Program {
        type Program = &'static str;

        fn program(&self) -> &'static str {
            self.0
        }
    }

    struct Queue(mpsc::Receiver<(DuplexStream, Program)>);

    impl Listener for Queue {
        type Stream = DuplexStream;
        type Peer = Program;

        async fn accept(&mut self) -> io::Result<(DuplexStream, Program)> {
            match self.0.recv().await {
                Some(accepted) => Ok(accepted),
                None => std::future::pending().await,
            }
        }
    }

    /// `/wait` waits for the gate, `/panic` panics, everything else is answered by its body.
    struct Echo(Notify);

    impl Handler<Program> for Echo {
        async fn handle(&self, _peer: &Program, request: Request<Bytes>) -> Response {
            match request.uri().path() {
                "/wait" => self.0.notified().await,
                "/panic" => panic!("as asked"),
                _ => {}
            }
            Response::new(Full::new(request.into_body()))
        }

        fn refuse(&self, status: StatusCode) -> Response {
            let mut response = Response::default();
            *response.status_mut() = status;
            response
        }
    }

    struct World {
        connections: mpsc::Sender<(DuplexStream, Program)>,
        echo: Arc<Echo>,
        stop: watch::Sender<bool>,
        server: tokio::task::JoinHandle<()>,
        traffic: Arc<Traffic>,
    }

    impl World {
        fn new() -> Self {
            let (connections, queue) = mpsc::channel(64);
            let (stop, stopped) = watch::channel(false);
            let (echo, traffic) = (Arc::new(Echo(Notify::new())), Arc::new(Traffic::default()));
            let server = serve(Queue(queue), LIMITS, Arc::clone(&echo), Arc::clone(&traffic), stopped);
            Self { connections, echo, stop, server: tokio::spawn(server), traffic }
        }

        async fn connect(&self, program: &'static str) -> DuplexStream {
            let (ours, theirs) = duplex(64 * 1024);
            self.connections.send((theirs, Program(program))).await.unwrap();
            ours
        }

        async fn send(&self, program: &'static str, text: &str) -> DuplexStream {
            let mut stream = self.connect(program).await;
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }

        /// The first line of the answer; empty if the connection was closed instead.
        async fn ask(&self, program: &'static str, text: &str) -> String {
            first_line(&mut self.send(program, text).await).await
        }
    }

    async fn first_line(stream: &mut DuplexStream) -> String {
        let mut bytes = vec![0; 1024];
        let read = stream.read(&mut bytes).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    }

    async fn is_closed(stream: &mut DuplexStream) -> bool {
        matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn whoever_sits_there_makes_room_for_whoever_asks() {
        let world = World::new();
        let mut idle = Vec::new();
        for _ in 0..2 {
            idle.push(world.send("a", "POST / HTTP/1.1\r\nhost: a\r\ncontent-le").await);
            idle.push(world.connect("b").await);
        }
        for _ in 0..20 {
            idle.push(world.connect("b").await);
            assert_eq!(world.ask("c", GET).await, "HTTP/1.1 200 OK");
        }
        assert!(world.traffic.evicted.load(Ordering::SeqCst) >= 20);
        assert!(is_closed(&mut idle[0]).await, "the first to come, half a request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_being_answered_is_never_sent_away() {
        let world = World::new();
        let mut waiting = Vec::new();
        for program in ["a", "b", "c", "d"] {
            waiting.push(world.send(program, WAIT).await);
        }
        let mut later = world.send("e", GET).await;
        let ask_later = async { first_line(&mut later).await };
        let gate = async {
            tokio::task::yield_now().await;
            sleep(2 * LIMITS.patience).await;
            world.echo.0.notify_waiters();
        };
        let (answered, ()) = tokio::join!(ask_later, gate);
        assert_eq!(answered, "HTTP/1.1 200 OK", "it waits until there is room");
        for stream in &mut waiting {
            assert_eq!(first_line(stream).await, "HTTP/1.1 200 OK");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_with_too_many_requests_is_told_and_others_are_served() {
        let world = World::new();
        let mut flood = Vec::new();
        for _ in 0..3 {
            flood.push(world.send("flood", WAIT).await);
        }
        assert_eq!(world.ask("flood", GET).await, "HTTP/1.1 503 Service Unavailable");
        assert_eq!(world.ask("other", GET).await, "HTTP/1.1 200 OK");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_long_too_slow_or_no_request_is_refused() {
        let world = World::new();
        let body = "x".repeat(65);
        let header = |count| "a: b\r\n".repeat(count);
        for (sent, answer) in [
            (
                format!("POST / HTTP/1.1\r\ncontent-length: 65\r\n\r\n{body}"),
                "HTTP/1.1 413 Payload Too Large",
            ),
            (
                format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n41\r\n{body}\r\n0\r\n\r\n"),
                "HTTP/1.1 413 Payload Too Large",
            ),
            (format!("GET / HTTP/1.1\r\n{}\r\n", header(9)), "HTTP/1.1 431 Request Header Fields Too Large"),
            (
                format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(9000)),
                "HTTP/1.1 431 Request Header Fields Too Large",
            ),
            (
                format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000)),
                "HTTP/1.1 431 Request Header Fields Too Large",
            ),
            ("\0\u{1}\u{2} nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400 Bad Request"),
            ("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf".to_owned(), "HTTP/1.1 408 Request Timeout"),
            ("GET / HTTP/1.1\r\nhalf: ".to_owned(), ""),
            ("GET /panic HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 500 Internal Server Error"),
            (GET.to_owned(), "HTTP/1.1 200 OK"),
        ] {
            assert_eq!(world.ask("a", &sent).await, answer, "{}", &sent[..sent.len().min(60)]);
        }
        assert_eq!(world.traffic.panics.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_left_after_a_while() {
        let world = World::new();
        let mut stream = world.connect("a").await;
        let post = format!("POST / HTTP/1.1\r\ncontent-length: 60\r\n\r\n{}", "x".repeat(60));
        // Until both directions are full, or the server has left.
        let flood = async { while stream.write_all(post.as_bytes()).await.is_ok() {} };
        timeout(100 * LIMITS.patience, flood).await.expect("the server leaves");
        assert_eq!(world.ask("b", GET).await, "HTTP/1.1 200 OK");
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_requests_are_still_answered_and_idle_connections_are_not_waited_for() {
        let world = World::new();
        let _idle = world.connect("a").await;
        let mut waiting = world.send("b", WAIT).await;
        tokio::task::yield_now().await;
        sleep(Duration::from_secs(1)).await;
        world.stop.send(true).unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(!world.server.is_finished());
        world.echo.0.notify_waiters();
        assert_eq!(first_line(&mut waiting).await, "HTTP/1.1 200 OK");
        world.server.await.unwrap();
    }
}
