//! Processes in a simulation: several in one runtime, each of which can be stopped, continued and killed with
//! everything that it has spawned. Outside simulations there is none, and nothing here does anything.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};

tokio::task_local! {
    static CURRENT: Process;
}

/// What a simulation takes for a process.
#[derive(Clone, Debug, Default)]
pub struct Process(Arc<Mutex<Tasks>>);

#[derive(Debug, Default)]
struct Tasks {
    state: State,
    started: u64,
    /// How each is made to look at the state.
    wakers: BTreeMap<u64, Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Runs,
    Stopped,
    Killed,
}

/// One task, until it ends.
struct Registered<'a> {
    process: &'a Process,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.process.tasks().wakers.remove(&self.number);
    }
}

impl Process {
    /// As SIGSTOP: nothing of it goes on, and whatever comes for it waits.
    pub fn stop(&self) {
        self.become_(State::Stopped);
    }

    /// As SIGCONT. It notices that time has passed.
    pub fn go_on(&self) {
        self.become_(State::Runs);
    }

    /// As SIGKILL: nothing of it goes on, at whatever point it was.
    pub fn kill(&self) {
        self.become_(State::Killed);
    }

    /// Runs a future in this process; nothing comes of it if the process is killed.
    pub async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let registered = self.register();
        poll_fn(|cx| {
            let state = {
                let mut tasks = self.tasks();
                tasks.wakers.insert(registered.number, cx.waker().clone());
                tasks.state
            };
            match state {
                State::Killed => Poll::Ready(None),
                State::Stopped => Poll::Pending,
                State::Runs => {
                    CURRENT.sync_scope(self.clone(), || future.as_mut().poll(cx)).map(Some)
                }
            }
        })
        .await
    }

    fn register(&self) -> Registered<'_> {
        let mut tasks = self.tasks();
        tasks.started += 1;
        Registered { process: self, number: tasks.started }
    }

    fn become_(&self, state: State) {
        let wakers: Vec<Waker> = {
            let mut tasks = self.tasks();
            if tasks.state != State::Killed {
                tasks.state = state;
            }
            tasks.wakers.values().cloned().collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be spawned by the process that runs at this moment shares its fate. Without one: the future itself,
/// which takes no more memory than before.
pub fn of_this<F>(future: F) -> Either<F, BoxFuture<'static, ()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    match CURRENT.try_with(Process::clone) {
        Ok(process) => {
            let run = async move { process.run(future).await.unwrap_or_default() };
            Either::Right(run.boxed())
        }
        Err(_none) => Either::Left(future),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;
    use tokio_util::task::TaskTracker;

    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    async fn count(ticks: Arc<AtomicU32>) {
        loop {
            sleep(TICK).await;
            ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_process_has_spawned_stops_goes_on_and_dies_with_it() {
        let (process, ticks) = (Process::default(), Arc::new(AtomicU32::new(0)));
        let (parent, counted) = (process.clone(), Arc::clone(&ticks));
        let tasks = TaskTracker::new();
        let children = tasks.clone();
        let task = tasks.spawn(async move {
            let work = async {
                children.spawn(of_this(count(counted)));
                std::future::pending::<()>().await;
            };
            parent.run(work).await
        });
        sleep(TICK * 5 + TICK / 2).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 5);
        process.stop();
        sleep(TICK * 5).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 5);
        process.go_on();
        sleep(TICK * 5).await;
        let before = ticks.load(Ordering::Relaxed);
        assert!(before > 8, "{before} ticks");
        process.kill();
        assert_eq!(task.await.unwrap(), None);
        sleep(TICK * 5).await;
        assert_eq!(ticks.load(Ordering::Relaxed), before);
        assert_eq!(Arc::strong_count(&ticks), 1, "nothing of it is left");
    }
}
