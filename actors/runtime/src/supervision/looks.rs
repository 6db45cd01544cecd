//! One look at a time: the loop of every actor that finds its work in tables or files.
//!
//! The actor is asked to look by a wake-up and by a poll. A look runs in a task, because `handle`
//! never awaits long work; while one runs the next is remembered, not started. How it ended comes
//! back as a message, and a panic is one of the ways.
//!
//! A look ends with its incarnation: it is dropped where it waits. What it was doing is a transaction
//! that rolls back, and its work row is taken back by the next incarnation. Work that must not just
//! be dropped (a statement that goes on in the server) runs in a task of its own and listens to
//! [`Looks::incarnation_ends`].

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use ractor::{ActorRef, Message};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store::Wake;

/// The looks of one incarnation. Dropping it ends them, and all that was spawned with it.
#[derive(Debug)]
pub struct Looks {
    running: bool,
    asked_again: bool,
    ends: CancellationToken,
    _guard: DropGuard,
}

impl Default for Looks {
    fn default() -> Self {
        let ends = CancellationToken::new();
        Self {
            running: false,
            asked_again: false,
            _guard: ends.clone().drop_guard(),
            ends,
        }
    }
}

impl Looks {
    /// Starts `look`, unless one runs: then it is remembered that another is wanted. `ended` makes
    /// the message that tells the actor how it ended; `None` when it panicked.
    pub fn start<M: Message, T: Send + 'static>(
        &mut self,
        myself: &ActorRef<M>,
        look: impl Future<Output = T> + Send + 'static,
        ended: impl FnOnce(Option<T>) -> M + Send + 'static,
    ) {
        if self.running {
            self.asked_again = true;
            return;
        }
        self.running = true;
        let myself = myself.clone();
        self.spawn(async move {
            let outcome = AssertUnwindSafe(look).catch_unwind().await.ok();
            // Its actor may have ended in the same moment.
            let _ = myself.cast(ended(outcome));
        });
    }

    /// Remembers that another look is wanted after the one that runs.
    pub fn want(&mut self) {
        self.asked_again = true;
    }

    /// The look that ran has ended. Whether another was wanted meanwhile.
    pub fn ended(&mut self) -> bool {
        self.running = false;
        std::mem::take(&mut self.asked_again)
    }

    /// Whether a look runs.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Sends `ask` at once, whenever `wake` says so, and at each of its polls.
    pub fn ask_when<M: Message>(&self, mut wake: Wake, myself: ActorRef<M>, ask: fn() -> M) {
        self.spawn(async move {
            while myself.cast(ask()).is_ok() {
                wake.wait().await;
            }
        });
    }

    /// Runs a task for as long as this incarnation.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.ends.clone().run_until_cancelled_owned(task));
    }

    /// Cancelled when this incarnation ends.
    pub fn incarnation_ends(&self) -> CancellationToken {
        self.ends.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::time::Duration;

    use ractor::{Actor, ActorProcessingErr};
    use tokio::sync::{Notify, mpsc};

    use super::*;

    /// Looks whenever it is asked to; each look waits for a nod, and may panic.
    #[derive(Clone)]
    struct Looker {
        nod: Arc<Notify>,
        told: mpsc::UnboundedSender<Told>,
    }

    #[derive(Debug, PartialEq)]
    enum Told {
        Began,
        Ended(Option<u8>),
    }

    enum Msg {
        Look { panics: bool },
        Looked(Option<u8>),
    }

    impl Actor for Looker {
        type Msg = Msg;
        type State = Looks;
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Msg>, (): ()) -> Result<Looks, ActorProcessingErr> {
            Ok(Looks::default())
        }

        async fn handle(
            &self,
            myself: ActorRef<Msg>,
            message: Msg,
            looks: &mut Looks,
        ) -> Result<(), ActorProcessingErr> {
            let panics = match message {
                Msg::Look { panics } => panics,
                Msg::Looked(outcome) => {
                    let _ = self.told.send(Told::Ended(outcome));
                    if !looks.ended() {
                        return Ok(());
                    }
                    false
                }
            };
            let (nod, told) = (self.nod.clone(), self.told.clone());
            let look = async move {
                let _ = told.send(Told::Began);
                nod.notified().await;
                assert!(!panics, "as told");
                1
            };
            looks.start(&myself, look, Msg::Looked);
            Ok(())
        }
    }

    async fn looker() -> (ActorRef<Msg>, Arc<Notify>, mpsc::UnboundedReceiver<Told>) {
        let nod = Arc::new(Notify::new());
        let (told, hears) = mpsc::unbounded_channel();
        let looker = Looker {
            nod: nod.clone(),
            told,
        };
        let (actor, _) = Actor::spawn(None, looker, ()).await.unwrap();
        (actor, nod, hears)
    }

    #[tokio::test]
    async fn however_often_it_is_asked_meanwhile_one_look_follows() {
        let (actor, nod, mut hears) = looker().await;
        for _ in 0..5 {
            actor.cast(Msg::Look { panics: false }).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(hears.recv().await, Some(Told::Began));
            nod.notify_one();
            assert_eq!(hears.recv().await, Some(Told::Ended(Some(1))));
        }
        let nothing = tokio::time::timeout(Duration::from_millis(50), hears.recv()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }

    #[tokio::test]
    async fn a_panic_is_told_and_does_not_end_the_looking() {
        let (actor, nod, mut hears) = looker().await;
        actor.cast(Msg::Look { panics: true }).unwrap();
        assert_eq!(hears.recv().await, Some(Told::Began));
        nod.notify_one();
        assert_eq!(hears.recv().await, Some(Told::Ended(None)));
        actor.cast(Msg::Look { panics: false }).unwrap();
        assert_eq!(hears.recv().await, Some(Told::Began));
    }

    #[tokio::test]
    async fn a_look_ends_with_its_actor() {
        let (actor, nod, mut hears) = looker().await;
        actor.cast(Msg::Look { panics: false }).unwrap();
        assert_eq!(hears.recv().await, Some(Told::Began));
        actor.stop_and_wait(None, None).await.unwrap();
        nod.notify_one();
        // The last sender goes with the look, which tells nothing more.
        assert_eq!(hears.recv().await, None);
    }
}
