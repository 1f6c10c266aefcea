//! A value that many wait to see change. As tokio's `watch`, but whoever has waited longest is woken first: tokio
//! wakes in an order that it draws, and a simulation could not be repeated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A value, and the means to change it.
#[derive(Debug, Default)]
pub struct Watched<T>(Arc<Shared<T>>);

#[derive(Debug, Default)]
struct Shared<T> {
    value: Mutex<T>,
    /// Counts changes.
    version: AtomicU64,
    changed: Notify,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// One who looks at the value.
#[derive(Clone, Debug)]
pub struct Watcher<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Shared<T> {
    fn value(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Watched<T> {
    /// Nobody looks yet.
    pub fn new(value: T) -> Self {
        let shared = Shared {
            value: Mutex::new(value),
            version: AtomicU64::default(),
            changed: Notify::new(),
        };
        Self(Arc::new(shared))
    }

    /// One more who looks; changes count from now on.
    pub fn watch(&self) -> Watcher<T> {
        let seen = self.0.version.load(Ordering::Acquire);
        Watcher { shared: Arc::clone(&self.0), seen }
    }

    /// Changes the value, and wakes everyone, if `change` says that it has.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        if change(&mut self.0.value()) {
            self.0.version.fetch_add(1, Ordering::AcqRel);
            self.0.changed.notify_waiters();
        }
    }

    /// Replaces the value, and wakes everyone even if it is the same.
    pub fn set(&self, value: T) {
        self.change(|current| {
            *current = value;
            true
        });
    }
}

impl<T: Copy> Watched<T> {
    /// The value.
    pub fn get(&self) -> T {
        *self.0.value()
    }
}

impl<T: Copy> Watcher<T> {
    /// The value, whether or not its last change has been noticed.
    pub fn get(&self) -> T {
        *self.shared.value()
    }

    /// Counts changes from now on.
    pub fn skip(&mut self) {
        self.seen = self.shared.version.load(Ordering::Acquire);
    }

    /// Returns when the value has changed since it was last noticed to. Dropped early, it has noticed nothing.
    pub async fn changed(&mut self) {
        loop {
            // Before the version is read: a change in between wakes it.
            let changed = self.shared.changed.notified();
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return;
            }
            changed.await;
        }
    }

    /// Returns when the value is as wanted.
    pub async fn until(&mut self, is_wanted: impl Fn(T) -> bool) {
        loop {
            self.skip();
            if is_wanted(self.get()) {
                return;
            }
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_change_is_noticed_once_and_by_everyone_in_the_order_of_waiting() {
        let watched = Watched::new(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (mut watcher, woken) = (watched.watch(), Arc::clone(&woken));
            tasks.spawn(async move {
                watcher.changed().await;
                woken.lock().unwrap().push(number);
            });
        }
        tokio::task::yield_now().await;
        watched.set(1);
        tasks.join_all().await;
        assert_eq!(*woken.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_before_the_wait_counts_and_one_before_the_watch_does_not() {
        use futures_util::FutureExt;
        let watched = Watched::new(0);
        watched.set(1);
        let mut watcher = watched.watch();
        assert_eq!(watcher.changed().now_or_never(), None);
        watched.set(2);
        assert_eq!(watcher.changed().now_or_never(), Some(()));
        assert_eq!(watcher.changed().now_or_never(), None);
        watched.change(|value| std::mem::replace(value, 2) != 2);
        assert_eq!(watcher.changed().now_or_never(), None, "it has not changed");
        assert_eq!(watcher.until(|value| value == 2).now_or_never(), Some(()));
    }
}
