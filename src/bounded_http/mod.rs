//! An HTTP/1.1 server that no client can hold up: everything it takes in is bounded in size, number
//! and time, and whoever only sits there makes room for whoever asks.

mod attempt;
mod table;

use std::convert::Infallible;
use std::hash::Hash;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::table::{Place, Table};

#[cfg(unix)]
pub(crate) use self::attempt::is_attempt;
pub(crate) use self::attempt::is_done_now;

/// So many connections are let in and answered before all others have their turn.
const MOST_AT_ONCE: u32 = 8;

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
    /// What a look at a request's head came to.
    type Admitted: Send + Sync;

    /// Looks at a request's head before anything of its body is read.
    ///
    /// # Errors
    /// The answer to a request of which no more is worth reading.
    fn admit(&self, head: &Parts) -> Result<Self::Admitted, Box<Response>>;

    /// Answers one request, whose body is all there.
    fn handle(
        &self,
        peer: &P,
        admitted: &Self::Admitted,
        request: Request<Bytes>,
    ) -> impl Future<Output = Response> + Send;

    /// The answer to a request that cannot be handled. The status says why: 503 that its program has
    /// too many of them, so that it was not even admitted; 413, 400 or 408 that its body is too long,
    /// broke off or did not come; 500 that the handler panicked, 504 that it took too long.
    fn refuse(&self, admitted: Option<&Self::Admitted>, status: StatusCode) -> Response;
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
    /// Whether a connection is good for more than one request.
    pub(crate) keep_alive: bool,
    /// How long a connection may take to bring a head, then a body, and to take a whole answer.
    pub(crate) patience: Duration,
    /// How long a handler may take; `None` if it bounds that itself.
    pub(crate) answer: Option<Duration>,
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
    let mut at_once = 0;
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
                let handler = Arc::clone(&handler);
                let mut attended = Box::pin(attend(stream, peer, place, limits, handler, stop.clone()));
                // What is there already and waits for nothing is answered on the spot.
                if is_done_now(attended.as_mut()) {
                    at_once += 1;
                    if at_once < MOST_AT_ONCE {
                        continue;
                    }
                } else {
                    tokio::spawn(attended);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                table.evict_one();
                sleep(Duration::from_millis(20)).await;
            }
        }
        at_once = 0;
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
            .keep_alive(limits.keep_alive)
            .max_buf_size(limits.head)
            .max_headers(limits.headers)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut idle_until = pin!(sleep_until(Instant::now() + limits.patience));
    let mut seen = place.active();
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
            () = place.has_to_leave(), if !place.is_busy() => break,
            () = idle_until.as_mut() => {
                let active = place.active();
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
        return closing(handler.refuse(None, StatusCode::SERVICE_UNAVAILABLE));
    }
    // A body has as long as the head had.
    place.touch();
    let (head, body) = request.into_parts();
    let admitted = match handler.admit(&head) {
        Ok(admitted) => admitted,
        Err(response) => return closing(*response),
    };
    let refuse = |status| handler.refuse(Some(&admitted), status);
    let body = match timeout(limits.patience, Limited::new(body, limits.body).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return closing(refuse(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(Err(_)) => return closing(refuse(StatusCode::BAD_REQUEST)),
        Err(_) => return closing(refuse(StatusCode::REQUEST_TIMEOUT)),
    };
    let _busy = place.busy();
    let handled = handler.handle(peer, &admitted, Request::from_parts(head, body));
    let handled = AssertUnwindSafe(handled).catch_unwind();
    let handled = match limits.answer {
        Some(limit) => timeout(limit, handled).await,
        None => Ok(handled.await),
    };
    match handled {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            place.table.traffic.panics.fetch_add(1, Ordering::SeqCst);
            refuse(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT),
    }
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
    use tokio::sync::{Notify, mpsc};

    use super::*;

    const LIMITS: Limits = Limits {
        body: 64,
        head: 8192,
        headers: 8,
        connections: 4,
        connections_of_a_program: 3,
        keep_alive: true,
        patience: Duration::from_secs(10),
        answer: None,
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

    /// `/wait` waits for the gate, `/panic` panics, `/none` is not admitted, everything else is
    /// answered by its body.
    struct Echo(Notify);

    impl Handler<Program> for Echo {
        type Admitted = ();

        fn admit(&self, head: &Parts) -> Result<(), Box<Response>> {
            match head.uri.path() {
                "/none" => Err(Box::new(self.refuse(None, StatusCode::NOT_FOUND))),
                _ => Ok(()),
            }
        }

        async fn handle(&self, _peer: &Program, (): &(), request: Request<Bytes>) -> Response {
            match request.uri().path() {
                "/wait" => self.0.notified().await,
                "/panic" => panic!("as asked"),
                _ => {}
            }
            Response::new(Full::new(request.into_body()))
        }

        fn refuse(&self, _admitted: Option<&()>, status: StatusCode) -> Response {
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
            Self::within(LIMITS)
        }

        fn within(limits: Limits) -> Self {
            let (connections, queue) = mpsc::channel(64);
            let (stop, stopped) = watch::channel(false);
            let (echo, traffic) = (Arc::new(Echo(Notify::new())), Arc::new(Traffic::default()));
            let server = serve(Queue(queue), limits, Arc::clone(&echo), Arc::clone(&traffic), stopped);
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
        let (world, began) = (World::new(), Instant::now());
        let mut idle = Vec::new();
        for _ in 0..2 {
            idle.push(world.send("a", "POST / HTTP/1.1\r\nhost: a\r\ncontent-le").await);
            idle.push(world.connect("b").await);
        }
        for _ in 0..20 {
            idle.push(world.connect("b").await);
            assert_eq!(world.ask("c", GET).await, "HTTP/1.1 200 OK");
        }
        assert!(began.elapsed() < LIMITS.patience, "nobody waited for somebody's patience to end");
        assert!(world.traffic.evicted.load(Ordering::SeqCst) >= 20);
        assert!(is_closed(&mut idle[0]).await, "the first to come, half a request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_with_too_many_connections_gives_up_its_own() {
        let world = World::within(Limits { connections: 8, ..LIMITS });
        let mut other = world.connect("a").await;
        let mut own = world.connect("b").await;
        let _more = [world.connect("b").await, world.connect("b").await];
        assert_eq!(world.ask("b", GET).await, "HTTP/1.1 200 OK");
        assert!(is_closed(&mut own).await);
        other.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(first_line(&mut other).await, "HTTP/1.1 200 OK", "though it was idle the longest");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_answered_last_was_not_idle_the_longest() {
        let world = World::new();
        let mut answered = world.send("a", WAIT).await;
        let _idle = [world.connect("b").await, world.connect("b").await, world.connect("c").await];
        sleep(LIMITS.patience / 2).await;
        world.echo.0.notify_waiters();
        assert_eq!(first_line(&mut answered).await, "HTTP/1.1 200 OK");
        assert_eq!(world.ask("d", GET).await, "HTTP/1.1 200 OK");
        // Whoever has to make room has left by then.
        sleep(Duration::from_secs(1)).await;
        answered.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(first_line(&mut answered).await, "HTTP/1.1 200 OK");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_in_a_row_leaves_others_their_turn() {
        let many = MOST_AT_ONCE as usize + 1;
        let world = World::within(Limits { connections: many, connections_of_a_program: many, ..LIMITS });
        let mut asking = Vec::new();
        for _ in 0..many {
            asking.push(world.send("a", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await);
        }
        let turns = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        let last = asking.last_mut().expect("there are some");
        assert_eq!(first_line(last).await, "HTTP/1.1 200 OK");
        assert!(turns.load(Ordering::SeqCst) >= 2, "one of them before the last request");
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
    async fn a_request_that_is_not_admitted_is_answered_before_its_body_comes() {
        let world = World::new();
        let started = Instant::now();
        for length in ["9", "99999"] {
            let mut stream = world
                .send("a", &format!("POST /none HTTP/1.1\r\ncontent-length: {length}\r\n\r\nhalf"))
                .await;
            assert_eq!(first_line(&mut stream).await, "HTTP/1.1 404 Not Found");
            assert!(is_closed(&mut stream).await);
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_as_long_as_the_head_had() {
        let world = World::new();
        let mut stream = world.connect("a").await;
        sleep(LIMITS.patience / 2).await;
        stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        assert_eq!(first_line(&mut stream).await, "HTTP/1.1 408 Request Timeout");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_not_kept_alive_is_good_for_one_request() {
        let once = World::within(Limits { keep_alive: false, ..LIMITS });
        for (world, answers) in [(once, 1), (World::new(), 2)] {
            let mut stream = world.send("a", &GET.repeat(2)).await;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text.matches("200 OK").count(), answers, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_takes_too_long_is_given_up() {
        let world = World::within(Limits { answer: Some(3 * LIMITS.patience), ..LIMITS });
        let started = Instant::now();
        assert_eq!(world.ask("a", WAIT).await, "HTTP/1.1 504 Gateway Timeout");
        assert_eq!(started.elapsed().as_secs(), 30);
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
