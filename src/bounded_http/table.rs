//! Who is connected, and who of them has to leave when somebody else comes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::{Limits, Traffic};

/// Everybody who is connected.
pub(super) struct Table<K> {
    limits: Limits,
    pub(super) traffic: Arc<Traffic>,
    seats: Mutex<Seats<K>>,
    /// Somebody left, or is no longer busy.
    pub(super) left: Notify,
}

struct Seats<K> {
    next: u64,
    by_number: HashMap<u64, Seat<K>>,
}

impl<K> Seats<K> {
    fn touch(&mut self, state: &SeatState) {
        self.next += 1;
        state.active.store(self.next, Ordering::SeqCst);
    }
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
    pub(super) fn new(limits: Limits, traffic: Arc<Traffic>) -> Self {
        let seats = Seats { next: 0, by_number: HashMap::new() };
        Self { limits, traffic, seats: Mutex::new(seats), left: Notify::new() }
    }

    /// Waits until somebody may come in, sending away whoever has been idle the longest: long only
    /// when every request that is here is being answered.
    pub(super) async fn has_room(&self) {
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

    pub(super) fn evict_one(&self) -> bool {
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
            tracing::debug!("an idle connection makes room");
            seat.state.leave.notify_one();
            self.traffic.evicted.fetch_add(1, Ordering::SeqCst);
        }
        true
    }

    /// A place for a connection of the program, which gives up an idle one of its own if it has too
    /// many. If all of those are busy there is no place.
    pub(super) fn take_place(self: &Arc<Self>, program: K) -> Place<K> {
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
pub(super) struct Place<K: Clone + Eq + Hash + Send> {
    pub(super) table: Arc<Table<K>>,
    number: u64,
    state: Arc<SeatState>,
    /// The program has too many connections that are all busy.
    pub(super) refused: bool,
}

impl<K: Clone + Eq + Hash + Send> Place<K> {
    /// Something came over the connection, which makes it the last to have been idle.
    pub(super) fn touch(&self) {
        self.table.seats.lock().unwrap_or_else(PoisonError::into_inner).touch(&self.state);
    }

    /// When it was touched last, counted in things that happened.
    pub(super) fn active(&self) -> u64 {
        self.state.active.load(Ordering::SeqCst)
    }

    /// Waits until it has to make room for others.
    pub(super) async fn has_to_leave(&self) {
        self.state.leave.notified().await;
    }

    /// A request is all there and is being answered until the guard is dropped.
    pub(super) fn busy(&self) -> Busy<'_, K> {
        self.state.busy.store(true, Ordering::SeqCst);
        Busy(self)
    }

    pub(super) fn is_busy(&self) -> bool {
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

pub(super) struct Busy<'a, K: Clone + Eq + Hash + Send>(&'a Place<K>);

impl<K: Clone + Eq + Hash + Send> Drop for Busy<'_, K> {
    fn drop(&mut self) {
        let Place { table, state, .. } = self.0;
        let mut seats = table.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.touch(state);
        state.busy.store(false, Ordering::SeqCst);
        drop(seats);
        table.left.notify_waiters();
    }
}
