//! Credentials: each turns a [`TokenRequest`] into an [`AccessToken`].
//!
//! | credential | asks a person | for |
//! |---|---|---|
//! | [`DeviceCodeCredential`] | to type a code into a browser anywhere | terminals, SSH, containers |
//! | [`InteractiveBrowserCredential`] | to sign in with the browser of this machine | desktops |
//! | [`SharedTokenCacheCredential`] | nobody | using a login that another tool made |
//! | [`ChainedTokenCredential`] | as its members do | the first of several that can |
//!
//! The first three share one engine: the cache first, then a refresh token, and only then a person.

#[cfg(feature = "cli")]
pub(crate) mod account;
mod agent;
mod browser;
mod chain;
mod device_code;
mod interactive;
mod options;
mod shared_token_cache;

#[cfg(feature = "azure")]
mod azure;

use std::fmt;
use std::io;
use std::pin::Pin;

use crate::entra;
use crate::error::Result;
use crate::time::UnixTime;
use crate::token::{AccessToken, TokenRequest};

pub use crate::acquire::{DeadGrant, DeadGrantObserver};

#[cfg(feature = "azure")]
pub use self::azure::TokenRequestExt;
pub use self::browser::InteractiveBrowserCredential;
pub use self::chain::ChainedTokenCredential;
pub use self::device_code::DeviceCodeCredential;
pub use self::options::{CredentialOptions, DEVELOPER_SIGN_ON_CLIENT_ID};
pub use self::shared_token_cache::SharedTokenCacheCredential;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that gets access tokens.
///
/// Calls may run at the same time, and a call that is dropped leaves the cache sound and its lock
/// free. A chain goes on to its next credential after errors that [`Error::moves_chain_on`], and
/// stops at all others.
///
/// [`Error::moves_chain_on`]: crate::Error::moves_chain_on
pub trait TokenCredential: fmt::Debug + Send + Sync {
    /// Gets a token: from the cache if one there will do, else from the provider.
    fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>>;

    /// What to call it when telling what a chain has tried: the type's name unless it says otherwise.
    fn name(&self) -> &'static str {
        let path = std::any::type_name::<Self>();
        let bare = path.split_once('<').map_or(path, |(bare, _)| bare);
        bare.rsplit("::").next().unwrap_or(bare)
    }
}

/// What a person needs to sign in on another device (RFC 8628, section 3.3).
///
/// The code is for the person's eyes only: it is in no log.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeviceCodePrompt {
    /// What to type.
    pub user_code: String,
    /// Where to type it.
    pub verification_uri: String,
    /// The same place with the code filled in, where the provider offers that.
    pub verification_uri_complete: Option<String>,
    /// The provider's own sentence, which names both.
    pub message: String,
    /// Until when the code is good.
    pub expires_on: UnixTime,
}

impl fmt::Debug for DeviceCodePrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCodePrompt")
            .field("verification_uri", &self.verification_uri)
            .field("expires_on", &self.expires_on)
            .finish_non_exhaustive()
    }
}

/// How a credential talks to a person. The library itself never prints and never reads.
pub trait Interaction: fmt::Debug + Send + Sync {
    /// Shows the code. An error ends the sign-in: nobody would ever see it.
    ///
    /// # Errors
    /// When there is nowhere to show it, as unless this is implemented.
    fn show_device_code(&self, prompt: &DeviceCodePrompt) -> io::Result<()> {
        let _ = prompt;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this program has nowhere to show a device code"))
    }

    /// Opens the person's browser at a local, one-time address; the system's own unless this is
    /// implemented.
    ///
    /// # Errors
    /// When no browser could be started.
    fn open_browser(&self, url: &str) -> io::Result<()> {
        entra::launch::system_browser(url)
    }
}

/// An [`Interaction`] that opens the system's browser and has nowhere to show a device code.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemBrowser;

impl Interaction for SystemBrowser {}
