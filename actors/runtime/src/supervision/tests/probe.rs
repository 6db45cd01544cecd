//! An actor that can be told to fail in each way an actor can, and a tree of three of them.

use std::sync::{Arc, Mutex};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::mpsc;

use super::SOON;
use crate::supervision::*;
use crate::trace::TraceContext;

/// Does what it is told, and reports its starts and ends.
#[derive(Clone)]
pub(super) struct Probe;

#[derive(Clone)]
pub(super) struct ProbeArgs {
    pub(super) name: &'static str,
    pub(super) reports: mpsc::UnboundedSender<String>,
    /// While true, `pre_start` fails.
    pub(super) broken: Arc<Mutex<bool>>,
}

pub(super) enum ProbeMsg {
    Panic,
    Fail,
    StopYourself,
    /// Handled by writing into the report.
    Note(u32),
    Echo(u32, RpcReplyPort<u32>),
    /// The trace in which the message is handled.
    Trace(RpcReplyPort<TraceContext>),
    /// Holds the handler until the sender is dropped.
    Hold(tokio::sync::oneshot::Receiver<()>),
}

impl Actor for Probe {
    type Msg = ProbeMsg;
    type State = ProbeArgs;
    type Arguments = ProbeArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<ProbeMsg>,
        args: ProbeArgs,
    ) -> Result<ProbeArgs, ActorProcessingErr> {
        if *args.broken.lock().unwrap() {
            return Err("it is broken".into());
        }
        args.reports.send(format!("+{}", args.name))?;
        Ok(args)
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ProbeMsg>,
        state: &mut ProbeArgs,
    ) -> Result<(), ActorProcessingErr> {
        state.reports.send(format!("-{}", state.name))?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ProbeMsg>,
        message: ProbeMsg,
        state: &mut ProbeArgs,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ProbeMsg::Panic => panic!("it was told to panic"),
            ProbeMsg::Fail => return Err("it was told to fail".into()),
            ProbeMsg::StopYourself => myself.stop(None),
            ProbeMsg::Note(number) => state.reports.send(format!("{}:{number}", state.name))?,
            ProbeMsg::Echo(number, reply) => reply.send(number)?,
            ProbeMsg::Trace(reply) => reply.send(TraceContext::current())?,
            ProbeMsg::Hold(released) => {
                let _ = released.await;
            }
        }
        Ok(())
    }
}

/// A tree of probes under test.
pub(super) struct Stack {
    pub(super) tree: TreeHandle,
    pub(super) reports: mpsc::UnboundedReceiver<String>,
    pub(super) broken: Arc<Mutex<bool>>,
}

impl Stack {
    /// One supervisor `group` with probes `a`, `b`, `c` below `root`.
    pub(super) async fn start(strategy: Strategy, keep: impl Fn(ActorSpec) -> ActorSpec) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        let broken = Arc::new(Mutex::new(false));
        let probe = |name: &'static str| {
            let args = ProbeArgs {
                name,
                reports: sender.clone(),
                broken: Arc::clone(&broken),
            };
            keep(ActorSpec::new(name, Probe, move || args.clone()))
        };
        let group = SupervisorSpec::new("group", strategy).children(["a", "b", "c"].map(probe));
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(group);
        let tree = Tree::start(Scope::unique(), root, None).await.unwrap();
        let mut stack = Self {
            tree,
            reports,
            broken,
        };
        stack.expect(&["+a", "+b", "+c"]).await;
        stack
    }

    pub(super) async fn expect(&mut self, reports: &[&str]) {
        for expected in reports {
            let report = tokio::time::timeout(SOON, self.reports.recv()).await;
            assert_eq!(report.expect("a report in time").unwrap(), *expected);
        }
    }

    pub(super) fn nothing_more(&mut self) {
        assert_eq!(self.reports.try_recv().ok(), None);
    }

    pub(super) fn address(&self, name: &str) -> Address<ProbeMsg> {
        Address::new(self.tree.scope(), name)
    }

    pub(super) fn tell(&self, name: &str, message: ProbeMsg) {
        self.address(name).cast(message).unwrap();
    }

    pub(super) fn kill(&self, name: &str) {
        ractor::registry::where_is(self.tree.scope().qualify(name))
            .unwrap()
            .kill();
    }

    pub(super) fn status(&self, name: &str) -> ActorStatus {
        let root = self.tree.describe().remove(0);
        root.all()
            .into_iter()
            .find(|actor| actor.name == name)
            .unwrap()
            .clone()
    }

    pub(super) async fn until(
        &self,
        name: &str,
        state: ActorState,
        incarnation: u64,
    ) -> ActorStatus {
        let reached = async {
            loop {
                let status = self.status(name);
                if status.state == state && status.incarnation == incarnation {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        let timed = tokio::time::timeout(SOON, reached).await;
        timed.unwrap_or_else(|_| panic!("{name} is {:?}", self.status(name)))
    }
}
