//! Whether more calls of the same connection wait behind the one that is being polled. Then
//! work of tens of microseconds is better handed to another thread, which costs a wake-up,
//! than done in place, where all of them wait for it. Set around a call by its connection,
//! asked far down the call's way.

tokio::task_local! {
    static BEHIND: bool;
}

/// Runs a call with or without others behind it. (No `async fn`: it would hold the call
/// twice, and calls are large.)
pub fn scope<F: Future>(waiting: bool, call: F) -> impl Future<Output = F::Output> {
    BEHIND.scope(waiting, call)
}

/// Whether calls wait behind this one; nobody knows of any outside of [`scope`].
#[must_use]
pub fn waiting() -> bool {
    BEHIND.try_with(|waiting| *waiting).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn it_is_known_within_the_call_alone() {
        let nested = scope(true, async { (waiting(), scope(false, async { waiting() }).await, waiting()) });
        assert_eq!(nested.now_or_never(), Some((true, false, true)));
        assert!(!waiting());
    }
}
