//! One request to the provider at a time for one token, however many callers wait for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::watch;

type Flight<T> = Shared<BoxFuture<'static, T>>;

/// Calls that are under way, by what they will bring.
#[derive(Debug)]
pub(super) struct Flights<K, T: Clone>(Arc<Board<K, T>>);

#[derive(Debug)]
struct Board<K, T: Clone> {
    flights: Mutex<HashMap<K, Flight<T>>>,
    /// How many are under way.
    count: watch::Sender<usize>,
}

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::new(Board { flights: Mutex::default(), count: watch::Sender::new(0) }))
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the flight for `key`, or starts it. A flight is a task of its own: a caller that goes
    /// away does not cancel it for the others, nor lose a token that the provider rotated already.
    pub(super) async fn join(&self, key: K, start: impl FnOnce() -> BoxFuture<'static, T>) -> T {
        let flight = {
            let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = self.launch(key.clone(), start());
                    flights.insert(key, flight.clone());
                    self.0.count.send_replace(flights.len());
                    flight
                }
            }
        };
        flight.await
    }

    /// Waits until no flight is under way.
    #[cfg(any(feature = "cli", test))]
    pub(super) async fn all_landed(&self) {
        // It cannot fail: the sender is ours.
        self.0.count.subscribe().wait_for(|count| *count == 0).await.ok();
    }

    fn launch(&self, key: K, work: BoxFuture<'static, T>) -> Flight<T> {
        let flights = Landing { board: Arc::clone(&self.0), key };
        let task = tokio::spawn(async move {
            let _landing = flights;
            work.await
        });
        async move {
            match task.await {
                Ok(value) => value,
                Err(failed) => match failed.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only a runtime that shuts down cancels the task, and then nobody waits.
                    Err(_) => std::future::pending().await,
                },
            }
        }
        .boxed()
        .shared()
    }
}

/// Takes the flight off the board when its task ends, even by a panic.
struct Landing<K: Eq + Hash, T: Clone> {
    board: Arc<Board<K, T>>,
    key: K,
}

impl<K: Eq + Hash, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        let mut flights = self.board.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&self.key);
        self.board.count.send_replace(flights.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_flight_and_a_dropped_one_does_not_end_it() {
        let flights = Flights::<&str, usize>::default();
        let (started, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let call = || {
            let (started, release) = (Arc::clone(&started), Arc::clone(&release));
            flights.join("token", move || {
                async move {
                    let nth = started.fetch_add(1, Ordering::SeqCst) + 1;
                    release.notified().await;
                    nth
                }
                .boxed()
            })
        };

        let mut dropped = Box::pin(call());
        assert!((&mut dropped).now_or_never().is_none());
        tokio::task::yield_now().await;
        drop(dropped);

        let release_all = async {
            tokio::task::yield_now().await;
            release.notify_one();
        };
        let (one, other, ()) = tokio::join!(call(), call(), release_all);
        assert_eq!((one, other), (1, 1));
        flights.all_landed().await;
        assert!(flights.0.flights.lock().unwrap().is_empty());

        release.notify_one();
        assert_eq!(call().await, 2, "the next call is a flight of its own");
    }
}
