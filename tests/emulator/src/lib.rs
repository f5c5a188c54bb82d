#![doc = include_str!("../README.md")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

mod authorize;
mod clock;
mod control;
mod device;
mod directory;
mod discovery;
mod errors;
mod http;
mod log;
mod mint;
mod pages;
mod resource;
mod script;
mod secrets;
mod server;
mod tls;
mod token;
mod world;

pub use device::DeviceLogin;
pub use directory::{
    Application, CLIENT_APP, CLIENT_AZURE_CLI, CLIENT_SERVICE, CLIENT_SERVICE_SECRET, CLIENT_VISUAL_STUDIO,
    Directory, Membership, PASSWORD, TENANT_ONE, TENANT_TWO, Tenant, USER_ONE, USER_ONE_GUEST_OID,
    USER_ONE_OID, USER_TWO, USER_TWO_OID, User,
};
pub use log::LogEntry;
pub use mint::RefreshTokenSummary;
pub use script::{Answer, ErrorAnswer, Match, Script};
pub use secrets::Secret;
pub use tls::SERVER_NAMES;
pub use world::{RequiredClaims, Settings};

use server::Shared;
use world::World;

/// Where to listen, who exists, how to behave.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// More addresses to listen on, for example `127.0.0.1:443` in a private network namespace.
    pub also_listen: Vec<SocketAddr>,
    /// Where to write `ca.pem`; without it a file of its own in the temporary folder, removed at the end.
    pub dir: Option<PathBuf>,
    /// Tenants, users and applications.
    pub directory: Directory,
    /// Lifetimes, rotation and the like.
    pub settings: Settings,
}

/// A running emulator; dropping it closes its sockets and connections.
///
/// It has a thread and a runtime of its own, so that a test may block while it waits for a child
/// process.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    ca_path: PathBuf,
    ca_is_ours: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If it cannot; [`Emulator::bind`] returns the error instead.
    pub async fn start(config: Config) -> Self {
        Self::bind(config).expect("the emulator could not be started")
    }

    /// Starts one, outside of async code, too.
    ///
    /// # Errors
    ///
    /// If a port is taken or `ca.pem` cannot be written.
    pub fn bind(config: Config) -> io::Result<Self> {
        let (tls, ca_pem) = tls::make()?;
        let mut wanted = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, config.port))];
        wanted.extend(config.also_listen);
        let sockets = wanted
            .into_iter()
            .map(|address| {
                let socket = TcpListener::bind(address)
                    .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let address = sockets[0].local_addr()?;
        let ca_is_ours = config.dir.is_none();
        let ca_path = match &config.dir {
            Some(dir) => dir.join("ca.pem"),
            None => std::env::temp_dir().join(format!("emulator-{}.pem", uuid::Uuid::new_v4())),
        };
        std::fs::write(&ca_path, &ca_pem)?;

        let shared = Arc::new(Shared::new(World::new(config.directory, config.settings), ca_pem));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let router = server::router(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("emulator".into()).spawn(move || {
            runtime.block_on(async move {
                let sockets = sockets
                    .into_iter()
                    .filter_map(|socket| tokio::net::TcpListener::from_std(socket).ok())
                    .collect();
                let listener = tls::TlsListener::new(sockets, address, tls);
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { shared, address, ca_path, ca_is_ours, stop: Some(stop), thread: Some(thread) })
    }

    /// `https://127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The file with the authority's certificate, for `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` and
    /// `NODE_EXTRA_CA_CERTS`.
    pub fn ca_path(&self) -> &Path {
        &self.ca_path
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.shared.ca_pem
    }

    /// A user approves the newest pending device login, or else the next one that begins.
    ///
    /// # Panics
    ///
    /// If there is no such user, or the user may not sign in to the tenant asked for.
    pub fn approve(&self, user: &str) {
        let mut world = self.shared.world();
        match world.approve(user, None) {
            Ok(true) => {}
            Ok(false) => world.approvals.push(user.to_owned()),
            Err(refusal) => panic!("cannot approve for {user}: {:?}", refusal.description),
        }
    }

    /// Declines the newest pending device login; false if there is none.
    pub fn decline(&self) -> bool {
        self.shared.world().decline(None)
    }

    /// Refuses from now on, with AADSTS50173, everything issued to the user before.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn change_password(&self, user: &str) {
        self.shared.world().change_password(user, None).unwrap_or_else(|_| panic!("there is no user {user}"));
    }

    /// Orders an answer.
    pub fn script(&self, script: Script) {
        self.shared.world().scripts.push(script);
    }

    /// Takes back all orders and lets held answers go.
    pub fn clear_scripts(&self) {
        self.shared.world().scripts.clear();
        self.shared.release();
    }

    /// Lets all held answers go.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Changes settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.world().settings);
    }

    /// Changes the named settings, as `POST /_control/settings` does.
    ///
    /// # Errors
    ///
    /// If a name or value is not a setting's.
    pub fn set_json(&self, changes: &Value) -> serde_json::Result<()> {
        self.shared.world().change_settings(changes)
    }

    /// Puts the clock forward, which ends codes and refresh tokens.
    pub fn advance_clock(&self, seconds: u64) {
        self.shared.world().advanced_seconds += seconds;
    }

    /// Ends all browser sessions.
    pub fn sign_out(&self) {
        self.shared.world().sessions.clear();
    }

    /// All requests since the last reset, in the order of arrival.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.world().log.entries().to_vec()
    }

    /// How many requests of a kind came; `""` counts all.
    pub fn count(&self, kind: &str) -> usize {
        self.shared.world().log.count(kind)
    }

    /// Empties the log.
    pub fn reset_log(&self) {
        self.shared.world().log.reset();
    }

    /// Returns when at least `count` requests of the kind have arrived, held ones included.
    pub async fn wait_for(&self, kind: &str, count: usize) {
        self.shared.wait_for(kind, count).await;
    }

    /// Every secret that was made here or sent here.
    pub fn secrets(&self) -> Vec<Secret> {
        self.shared.world().secrets.list().to_vec()
    }

    /// The refresh tokens given out, without their secrets.
    pub fn refresh_tokens(&self) -> Vec<RefreshTokenSummary> {
        self.shared.world().refresh_token_summaries()
    }

    /// The device logins that were begun.
    pub fn device_logins(&self) -> Vec<DeviceLogin> {
        self.shared.world().device_logins()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if self.ca_is_ours {
            let _ = std::fs::remove_file(&self.ca_path);
        }
    }
}
