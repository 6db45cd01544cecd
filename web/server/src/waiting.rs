//! Results that take longer than a client's patience: it is told to come again, and finds the same
//! work still going on. Work that nobody waits for any more is cancelled, in the database too.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballpoint_metrics::{ApiReply, Served};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// After which a client is told to come again, as Cube does.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long work goes on for a client that was told so.
const GRACE: Duration = Duration::from_secs(5);

/// The work that clients wait for.
pub struct Waiting {
    patience: Duration,
    grace: Duration,
    jobs: Mutex<HashMap<String, Job>>,
}

struct Job {
    /// Tells jobs with one key apart.
    number: u64,
    outcome: watch::Receiver<Option<Served>>,
    work: AbortHandle,
    waiters: usize,
    /// Clients' names for their requests: by these they can end it.
    requests: Vec<String>,
}

/// What is answered where there will be no outcome.
pub(crate) fn broken_off() -> Served {
    let error = "the query was ended before there was a result";
    let body = json!({ "error": error });
    ApiReply { status: 500, body }.into()
}

impl Default for Waiting {
    fn default() -> Self {
        Self::new(PATIENCE, GRACE)
    }
}

impl Waiting {
    pub fn new(patience: Duration, grace: Duration) -> Self {
        Self {
            patience,
            grace,
            jobs: Mutex::default(),
        }
    }

    /// The outcome of `work`, or of the same work that is going on already; `None` when it is not
    /// there in time.
    pub(crate) async fn outcome(
        self: &Arc<Self>,
        key: String,
        request: Option<&str>,
        work: impl Future<Output = Served> + Send + 'static,
    ) -> Option<Served> {
        let mut waiter = self.enter(key, request, work);
        let mut outcome = waiter.outcome.clone();
        let waited = tokio::time::timeout(self.patience, outcome.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(found)) => found.clone(),
            // It was cancelled, or broke off. To be asked again at once would not help it.
            Ok(Err(_)) => Some(broken_off()),
            Err(_) => {
                waiter.comes_again = true;
                None
            }
        }
    }

    /// Ends what was asked under this name; whether there was such work.
    pub(crate) fn cancel(&self, request: &str) -> bool {
        let mut jobs = self.jobs();
        let found: Vec<String> = jobs
            .iter()
            .filter(|(_, job)| job.requests.iter().any(|name| name == request))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &found {
            if let Some(job) = jobs.remove(key) {
                job.work.abort();
            }
        }
        !found.is_empty()
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, HashMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
        self: &Arc<Self>,
        key: String,
        request: Option<&str>,
        work: impl Future<Output = Served> + Send + 'static,
    ) -> Waiter {
        static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let mut jobs = self.jobs();
        let known = jobs.get(&key).is_some_and(|job| !job.work.is_finished());
        if !known {
            let (done, outcome) = watch::channel(None);
            let task = tokio::spawn(async move {
                let served = work.await;
                done.send_replace(Some(served));
            });
            let job = Job {
                number: NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
                outcome,
                work: task.abort_handle(),
                waiters: 0,
                requests: Vec::new(),
            };
            jobs.insert(key.clone(), job);
        }
        let job = jobs.get_mut(&key).expect("it was inserted");
        job.waiters += 1;
        let request = request.map(str::to_owned);
        let request = request.filter(|request| !job.requests.contains(request));
        job.requests.extend(request);
        Waiter {
            waiting: Arc::clone(self),
            number: job.number,
            outcome: job.outcome.clone(),
            key,
            comes_again: false,
        }
    }

    /// Cancels a job that has no waiter, and forgets one that is done.
    fn leave(&self, key: &str, number: u64) {
        let mut jobs = self.jobs();
        let Some(job) = jobs.get(key).filter(|job| job.number == number) else {
            return;
        };
        if job.waiters == 0 {
            job.work.abort();
            jobs.remove(key);
        }
    }
}

/// A client that waits. Dropped with its connection.
struct Waiter {
    waiting: Arc<Waiting>,
    key: String,
    number: u64,
    outcome: watch::Receiver<Option<Served>>,
    comes_again: bool,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(job) = self.waiting.jobs().get_mut(&self.key)
            && job.number == self.number
        {
            job.waiters -= 1;
        }
        if !self.comes_again {
            return self.waiting.leave(&self.key, self.number);
        }
        let (waiting, key, number) = (Arc::clone(&self.waiting), self.key.clone(), self.number);
        tokio::spawn(async move {
            tokio::time::sleep(waiting.grace).await;
            waiting.leave(&key, number);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn served() -> Served {
        Served {
            status: 200,
            body: "{}".into(),
            digest: [1; 32],
            hit: false,
            proof: None,
        }
    }

    /// Counts how often the work began and whether it was dropped before its end.
    #[derive(Default)]
    struct Count {
        begun: AtomicUsize,
        dropped: AtomicUsize,
    }

    struct OnDrop(Arc<Count>);

    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Ends when it is let; never before.
    async fn slow(count: Arc<Count>, let_go: Arc<Notify>) -> Served {
        count.begun.fetch_add(1, Ordering::SeqCst);
        let guard = OnDrop(count);
        let_go.notified().await;
        std::mem::forget(guard);
        served()
    }

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3_600);

    async fn until(count: &AtomicUsize, wanted: usize) {
        while count.load(Ordering::SeqCst) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn who_comes_again_finds_the_same_work() {
        let waiting = Arc::new(Waiting::new(SHORT, LONG));
        let (count, let_go) = (Arc::new(Count::default()), Arc::new(Notify::new()));
        let ask = || {
            let work = slow(Arc::clone(&count), Arc::clone(&let_go));
            waiting.outcome("q".to_owned(), None, work)
        };
        assert!(ask().await.is_none());
        let_go.notify_one();
        while ask().await.is_none() {}
        assert_eq!(count.begun.load(Ordering::SeqCst), 1);
        assert_eq!(count.dropped.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_cancelled() {
        let (count, let_go) = (Arc::new(Count::default()), Arc::new(Notify::new()));
        // The client leaves in the middle.
        let waiting = Arc::new(Waiting::new(LONG, LONG));
        let work = slow(Arc::clone(&count), Arc::clone(&let_go));
        let left = waiting.outcome("q".to_owned(), None, work);
        assert!(tokio::time::timeout(SHORT, left).await.is_err());
        until(&count.dropped, count.begun.load(Ordering::SeqCst)).await;
        // One that was told to come again does not.
        let waiting = Arc::new(Waiting::new(SHORT, SHORT));
        let work = slow(Arc::clone(&count), let_go);
        assert!(waiting.outcome("q".to_owned(), None, work).await.is_none());
        until(&count.dropped, count.begun.load(Ordering::SeqCst)).await;
    }

    #[tokio::test]
    async fn a_client_can_end_its_request_by_name() {
        let waiting = Arc::new(Waiting::new(LONG, LONG));
        let (count, let_go) = (Arc::new(Count::default()), Arc::new(Notify::new()));
        let work = slow(Arc::clone(&count), let_go);
        let asked = waiting.outcome("q".to_owned(), Some("mine"), work);
        let ended = async {
            until(&count.begun, 1).await;
            assert!(!waiting.cancel("another"));
            assert!(waiting.cancel("mine"));
        };
        let (outcome, ()) = tokio::join!(asked, ended);
        assert_eq!(
            outcome.unwrap().status,
            500,
            "not to be asked again at once"
        );
        until(&count.dropped, 1).await;
    }
}
