//! How long a call has waited for a lane: it belongs to the call's queue time, and
//! the lane is far down the call's way. What waits says so with [`note`] while the
//! call is polled; [`waited`] around the call adds it up.

use std::cell::Cell;
use std::time::Duration;

use futures_util::FutureExt;

tokio::task_local! {
    /// What the call that is being polled has waited so far.
    static WAITED: Cell<Duration>;
}

/// Runs a call and says how long it waited. (No `async fn`: it would hold the call
/// twice, and calls are large.)
pub fn waited<F: Future>(call: F) -> impl Future<Output = (F::Output, Duration)> {
    WAITED.scope(Cell::new(Duration::ZERO), call.map(|result| (result, WAITED.with(Cell::get))))
}

/// The call that is being polled has waited so long. Outside of [`waited`] nobody
/// wants to know.
pub fn note(time: Duration) {
    let _ = WAITED.try_with(|waited| waited.set(waited.get().saturating_add(time)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_added_up_for_their_own_call_only() {
        note(Duration::from_secs(9));
        let inner = async {
            note(Duration::from_secs(1));
            let ((), inside) = waited(async { note(Duration::from_secs(5)) }).await;
            note(Duration::from_secs(2));
            inside
        };
        let (inside, outside) = waited(inner).now_or_never().unwrap();
        assert_eq!((inside, outside), (Duration::from_secs(5), Duration::from_secs(3)));
    }
}
