//! What the agent costs next to its peers, all in one run: a bare Unix socket that answers without
//! looking, `ssh-agent`, `oidc-agent`, and a process that does nothing but ask.
//!
//! Run it with `cargo bench --bench agent`. A peer that is not installed is left out, and it says so: they are
//! Debian's `openssh-client` and `oidc-agent-cli`.

#![cfg_attr(unix, expect(clippy::print_stdout, reason = "a benchmark's output is its purpose"))]

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    if std::env::args().nth(1).as_deref() == Some("--minimal-client") {
        return on_unix::minimal_client();
    }
    on_unix::main();
}

#[cfg(unix)]
#[path = "../tests/programs/src/fake_sign_in.rs"]
mod fake_sign_in;

#[cfg(unix)]
mod on_unix {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use tempfile::TempDir;
    use tokenkeep::store::{self, Places};
    use tokenkeep::time::Deadline;
    use tokenkeep::{Storage, TokenCachePersistenceOptions};

    use super::fake_sign_in::{fake_sign_in, scope_of};

    const ACCOUNTS: usize = 10;
    const CLIENTS: usize = 16;
    const PATIENCE: Duration = Duration::from_secs(10);

    pub(super) fn main() {
        let world = World::new();
        let request = world.request();
        let agent = world.agent();
        let answer = ask(&world.agent_socket(), &request);
        assert!(answer.contains("fake-access-token"), "{answer}");
        let bare = bare_socket(&world, &answer);
        let (agent_socket, bare_socket) = (world.agent_socket(), bare);

        let mut latency = [Vec::new(), Vec::new()];
        for _ in 0..3_000 {
            for (times, socket) in latency.iter_mut().zip([&bare_socket, &agent_socket]) {
                let start = Instant::now();
                ask(socket, &request);
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        let [bare_times, agent_times] = latency;
        compare("a cached token with connect, µs", "bare socket", median(&bare_times), median(&agent_times));

        rates(&world, &bare_socket, &request);
        whole_processes(&world);
        stalls(&world, &agent_socket, &request);
        let resident = |when: &str| {
            let megabytes = resident_kb(agent.0.id()) / 1024.0;
            println!("{:<40}{when:>14} {megabytes:>12.1}", "resident with ten accounts, MB");
        };
        resident("busy");
        // It gives back what it does not use when it has been quiet for ten seconds, and looks every ten.
        std::thread::sleep(Duration::from_secs(21));
        resident("at rest");
    }

    fn compare(what: &str, peer: &str, theirs: f64, ours: f64) {
        println!("{what:<40}{peer:>14} {theirs:>12.1}   agent {ours:>10.1}   ratio {:>6.2}", ours / theirs);
    }

    struct World {
        home: TempDir,
        /// A proxy that takes connections and never answers: every provider hangs.
        proxy: TcpListener,
    }

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    impl World {
        /// Ten people with three tokens each.
        fn new() -> Self {
            let home = tempfile::tempdir().expect("a folder");
            let options = TokenCachePersistenceOptions::default().storage(Storage::Plaintext);
            let store = store::open(&options, false, &Places::below(home.path())).expect("a store");
            for account in 0..ACCOUNTS {
                for token in 0..3 {
                    let change = fake_sign_in(&format!("user{account}"), token);
                    store.apply(&change, Deadline::within(Duration::from_secs(10))).expect("it is stored");
                }
            }
            let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
            Self { home, proxy }
        }

        fn agent_socket(&self) -> PathBuf {
            self.home.path().join(".local/state/tokenkeep/run/agent.sock")
        }

        fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
            let mut command = Command::new(program);
            command.env_clear().env("HOME", self.home.path()).stdin(Stdio::null());
            command
        }

        fn agent(&self) -> Running {
            let mut agent = self.command(env!("CARGO_BIN_EXE_tokenkeep"));
            let proxy = format!("http://{}", self.proxy.local_addr().expect("its address"));
            let mut agent =
                agent.arg("agent").env("HTTPS_PROXY", proxy).stderr(Stdio::piped()).spawn().expect("it runs");
            let mut said = [0; 256];
            let read = agent.stderr.as_mut().expect("its output").read(&mut said).expect("it listens");
            assert!(read > 0);
            Running(agent)
        }

        fn request(&self) -> String {
            self.request_for("user7", &scope_of("user7", 1))
        }

        fn request_for(&self, account: &str, scope: &str) -> String {
            let body = format!(r#"{{"store": "plaintext", "account": "{account}", "scopes": ["{scope}"]}}"#);
            let length = body.len();
            format!(
                "POST /v1/token HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        }
    }

    fn ask(socket: &Path, request: &str) -> String {
        let mut stream = UnixStream::connect(socket).expect("somebody listens");
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut answer = String::with_capacity(4096);
        stream.read_to_string(&mut answer).expect("it is answered");
        answer
    }

    /// A server that reads once and answers the same bytes, one thread, without looking at anything.
    fn bare_socket(world: &World, answer: &str) -> PathBuf {
        let socket = world.home.path().join("bare.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let answer = answer.to_owned();
        std::thread::spawn(move || {
            let mut request = [0; 4096];
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                if stream.read(&mut request).is_ok() {
                    stream.write_all(answer.as_bytes()).ok();
                }
            }
        });
        socket
    }

    /// Tokens per second beside what the peers are asked: nothing at all, a list, a list, a signature.
    fn rates(world: &World, bare: &Path, request: &str) {
        let what = "requests per second, 16 clients";
        let agent = rate(|| drop(ask(&world.agent_socket(), request)));
        compare(what, "bare socket", rate(|| drop(ask(bare, request))), agent);
        match OidcAgent::start(world) {
            Some(oidc) => {
                compare(what, "oidc-agent", rate(|| assert!(oidc.lists_accounts(PATIENCE))), agent);
                beside_half_a_request(world, &oidc, request);
            }
            None => println!("{what:<40}{:>14}", "no oidc-agent"),
        }
        match SshAgent::start(world) {
            Some(ssh) => {
                compare(what, "ssh-agent list", rate(|| ssh.list_identities()), agent);
                compare(what, "ssh-agent sign", rate(|| ssh.sign()), agent);
            }
            None => println!("{what:<40}{:>14}", "no ssh-agent"),
        }
    }

    /// Requests of sixteen clients that connect for each one.
    fn rate(request: impl Fn() + Sync) -> f64 {
        const EACH: usize = 400;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| (0..EACH).for_each(|_| request()));
            }
        });
        (CLIENTS * EACH) as f64 / start.elapsed().as_secs_f64()
    }

    /// An agent that keeps a key and signs with it.
    struct SshAgent {
        _running: Running,
        socket: PathBuf,
        sign: Vec<u8>,
    }

    impl SshAgent {
        fn start(world: &World) -> Option<Self> {
            let socket = world.home.path().join("ssh.sock");
            let mut command = Command::new("ssh-agent");
            command.args(["-D", "-a"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
            let running = Running(command.spawn().ok()?);
            wait_for(&socket);
            let key = world.home.path().join("key");
            let mut make = world.command("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
            assert!(make.status().expect("it comes with ssh-agent").success());
            let added = world.command("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &socket).output();
            assert!(added.expect("it comes with ssh-agent").status.success());
            let public = std::fs::read_to_string(key.with_extension("pub")).expect("its public half");
            let blob = public.split(' ').nth(1).map(|blob| STANDARD.decode(blob).expect("it is base64"));
            // SSH_AGENTC_SIGN_REQUEST with what a login signs, in size
            let mut sign = vec![13];
            for part in [blob.expect("type, blob, comment"), vec![7; 150]] {
                sign.extend((part.len() as u32).to_be_bytes());
                sign.extend(part);
            }
            sign.extend([0; 4]);
            Some(Self { _running: running, socket, sign })
        }

        /// `SSH_AGENTC_REQUEST_IDENTITIES`: the least that can be asked.
        fn list_identities(&self) {
            assert_eq!(self.ask(&[11]), 12);
        }

        fn sign(&self) {
            assert_eq!(self.ask(&self.sign), 14);
        }

        /// The type of the answer.
        fn ask(&self, message: &[u8]) -> u8 {
            let mut stream = UnixStream::connect(&self.socket).expect("ssh-agent listens");
            let mut request = Vec::from((message.len() as u32).to_be_bytes());
            request.extend(message);
            stream.write_all(&request).expect("it is sent");
            let mut length = [0; 4];
            stream.read_exact(&mut length).expect("it is answered");
            let mut answer = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut answer).expect("it is answered whole");
            answer[0]
        }
    }

    /// Debian's agent for tokens of other providers, with no account: it has nothing to look up.
    struct OidcAgent {
        _running: Running,
        socket: PathBuf,
    }

    impl OidcAgent {
        fn start(world: &World) -> Option<Self> {
            let socket = world.home.path().join("oidc.sock");
            let config = world.home.path().join("oidc");
            std::fs::create_dir(&config).expect("a folder");
            let mut command = world.command("oidc-agent");
            command.args(["--console", "--socket-path"]).arg(&socket).env("OIDC_CONFIG_DIR", config);
            let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?);
            wait_for(&socket);
            Some(Self { _running: running, socket })
        }

        /// Whether it answers in this time.
        fn lists_accounts(&self, patience: Duration) -> bool {
            let mut stream = UnixStream::connect(&self.socket).expect("oidc-agent listens");
            stream.set_read_timeout(Some(patience)).expect("a timeout");
            stream.write_all(br#"{"request":"loaded_accounts"}"#).expect("it is sent");
            let mut answer = [0; 256];
            stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"{\"status\":\"success\""))
        }
    }

    fn wait_for(socket: &Path) {
        while UnixStream::connect(socket).is_err() {
            std::thread::yield_now();
        }
    }

    /// Whether somebody else is answered while one client has sent half of what it has to say.
    fn beside_half_a_request(world: &World, oidc: &OidcAgent, request: &str) {
        let half = |socket: &Path, bytes: &[u8]| {
            let mut stream = UnixStream::connect(socket).expect("somebody listens");
            stream.write_all(bytes).expect("it is sent");
            stream
        };
        let answers = |yes| if yes { "answers" } else { "no answer" };
        let silent = half(&oidc.socket, br#"{"request":"loaded_"#);
        let theirs = oidc.lists_accounts(Duration::from_secs(2));
        drop(silent);
        let held = half(&world.agent_socket(), &request.as_bytes()[..request.len() / 2]);
        let ours = ask(&world.agent_socket(), request).contains("fake-access-token");
        drop(held);
        let what = "beside half a request";
        println!("{what:<40}{:>14} {:>12}   agent {:>10}", "oidc-agent", answers(theirs), answers(ours));
    }

    /// A process that does nothing but ask, and one that is `tokenkeep token`.
    fn whole_processes(world: &World) {
        let mut minimal = world.command(std::env::current_exe().expect("this program"));
        minimal.arg("--minimal-client").env("SOCKET", world.agent_socket()).env("REQUEST", world.request());
        let mut tokenkeep = world.command(env!("CARGO_BIN_EXE_tokenkeep"));
        let scope = scope_of("user7", 1);
        tokenkeep.args([
            "token",
            "--store",
            "plaintext",
            "--account",
            "user7@contoso.example",
            "--scope",
            &scope,
        ]);
        let mut alone = world.command(env!("CARGO_BIN_EXE_tokenkeep"));
        alone.args(tokenkeep.get_args()).env("TOKENKEEP_NO_AGENT", "1");
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..100 {
            for (times, command) in times.iter_mut().zip([&mut minimal, &mut tokenkeep, &mut alone]) {
                let start = Instant::now();
                let output = command.output().expect("it runs");
                times.push(start.elapsed().as_secs_f64() * 1e3);
                assert!(String::from_utf8_lossy(&output.stdout).contains("fake-access-token"), "{output:?}");
            }
        }
        let [minimal, tokenkeep, alone] = times.map(|times| median(&times));
        compare("tokenkeep token, ms", "minimal client", minimal, tokenkeep);
        compare("the same without an agent, ms", "minimal client", minimal, alone);
    }

    /// The least that a client can be: one connection by hand.
    pub(super) fn minimal_client() {
        let variable = |name| std::env::var(name).expect("given by the benchmark");
        println!("{}", ask(Path::new(&variable("SOCKET")), &variable("REQUEST")));
    }

    /// The slowest hundredth of cached tokens, alone and beside requests that wait for a provider that
    /// never answers.
    fn stalls(world: &World, socket: &Path, request: &str) {
        let alone = slowest_hundredth(socket, request);
        let new = world.request_for("user1", "https://new.example/x");
        let stuck: Vec<UnixStream> = (0..8)
            .map(|_| {
                let mut stream = UnixStream::connect(socket).expect("somebody listens");
                stream.write_all(new.as_bytes()).expect("it is sent");
                stream
            })
            .collect();
        let idle: Vec<UnixStream> = (0..100).filter_map(|_| UnixStream::connect(socket).ok()).collect();
        let beside = slowest_hundredth(socket, request);
        compare("slowest hundredth beside stalls, µs", "idle", alone, beside);
        drop((stuck, idle));
    }

    fn slowest_hundredth(socket: &Path, request: &str) -> f64 {
        let mut times: Vec<f64> = (0..3_000)
            .map(|_| {
                let start = Instant::now();
                ask(socket, request);
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    }

    fn median(times: &[f64]) -> f64 {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    fn resident_kb(pid: u32) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it still runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        resident.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}
