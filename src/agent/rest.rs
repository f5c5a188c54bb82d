//! An agent that nobody asks gives back what it does not use.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Nobody asked in this time.
const QUIET: Duration = Duration::from_secs(10);

/// Calls `rest` once whenever it has become quiet, and wakes up for nothing while it stays so.
pub(super) async fn when_quiet(asked: Arc<Notify>, rest: impl Fn()) {
    loop {
        sleep(QUIET).await;
        if asked.notified().now_or_never().is_none() {
            rest();
            asked.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rests_once_after_each_time_that_somebody_asked() {
        let (asked, rests) = (Arc::<Notify>::default(), Arc::<AtomicU32>::default());
        let counted = Arc::clone(&rests);
        let rest = move || _ = counted.fetch_add(1, Ordering::SeqCst);
        let task = tokio::spawn(when_quiet(Arc::clone(&asked), rest));
        let rests = || rests.load(Ordering::SeqCst);
        sleep(QUIET * 5).await;
        assert_eq!(rests(), 1, "once after its start");
        for _ in 0..5 {
            asked.notify_one();
            sleep(QUIET / 2).await;
        }
        assert_eq!(rests(), 1, "not while somebody asks");
        sleep(QUIET * 5).await;
        assert_eq!(rests(), 2);
        task.abort();
    }
}
