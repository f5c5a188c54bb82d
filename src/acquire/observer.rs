//! Who wants to know that the provider called a refresh token dead.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::error::RemovedGrant;
use crate::time::UnixTime;

/// How long a caller waits for what goes elsewhere as well; after that it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// A refresh token that the provider called dead. `Debug` does not show it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadGrant {
    /// Whose it was: `uid.utid`.
    pub home_account_id: String,
    /// Whose it was, for people to read.
    pub username: String,
    /// A host of the cloud it was issued by.
    pub environment: String,
    /// The client it was issued to.
    pub client_id: String,
    /// The token itself, so that the same one is recognised elsewhere.
    pub secret: SecretString,
    /// The provider's code, such as `AADSTS50173`.
    pub code: String,
    /// Every grant of this person from before this moment is dead, too; never after [`Self::at`].
    pub valid_from: Option<UnixTime>,
    /// When the provider said so.
    pub at: UnixTime,
}

/// Is told of refresh tokens that the provider called dead, so that they go everywhere.
///
/// The token is gone from the credential's own cache by then, and the caller's answer is settled:
/// nothing that happens here changes it. Calls come from threads that may block, and one that takes
/// longer than two seconds is not waited for.
pub trait DeadGrantObserver: fmt::Debug + Send + Sync {
    /// Clears up, and tells what was removed from other caches.
    fn grants_died(&self, dead: &[DeadGrant]) -> Vec<RemovedGrant>;
}

/// Tells the observer on a thread of its own, and waits a moment for what it has to say.
pub(super) async fn tell(observer: &Arc<dyn DeadGrantObserver>, dead: Vec<DeadGrant>) -> Vec<RemovedGrant> {
    let observer = Arc::clone(observer);
    let told = tokio::task::spawn_blocking(move || observer.grants_died(&dead));
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(removed)) => removed,
        Ok(Err(error)) => {
            tracing::warn!(%error, "dead refresh tokens were not looked for in other caches");
            Vec::new()
        }
        // It goes on by itself.
        Err(_) => Vec::new(),
    }
}
