//! Actor `chat`: conversations.
//!
//! **In**: [`ChatMsg::Ask`]. **Out**: the answer; two messages in `ballpoint.messages`. The state of
//! a dialogue is part of its last message, so a restart loses nothing. Questions of one conversation
//! are answered one after the other, in tasks that outlive this actor; a turn whose asker has left
//! stops.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ballpoint_analyst::progress::{Progress, Step, Turn, TurnPart};
use ballpoint_analyst::{AnalystHandle, Answer, AskError};
use ballpoint_runtime::store::{Store, StoreError};
use ballpoint_runtime::supervision::{Address, AddressError, Scope};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{Mutex, mpsc};
use tracing::Instrument;
use uuid::Uuid;

use crate::turn;

/// Longer ids are nobody's conversation.
const ID_CHARS_MAX: usize = 200;

/// What an incarnation works with.
#[derive(Clone)]
pub struct ChatArgs {
    pub store: Store,
    pub analyst: AnalystHandle,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error("the conversation could not be read or kept")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the chat could not be reached: {0}")]
    Address(#[from] AddressError),
    #[error("a conversation id has 1 to {ID_CHARS_MAX} characters, none of them zero")]
    Id,
    /// Whoever asked has left.
    #[error("the turn was stopped")]
    Stopped,
    /// Others went on with the conversation each time an answer was ready.
    #[error("the conversation went on elsewhere; ask again")]
    Moving,
    /// The turn ended without an answer that could be given.
    #[error("a bug ended the turn; see the log")]
    Broken,
}

/// Messages of the chat.
pub enum ChatMsg {
    /// Answer a question in a conversation.
    Ask {
        question: String,
        conversation_id: String,
        trace: TraceContext,
        turn: Turn,
        reply: RpcReplyPort<Box<Result<Answer, ChatError>>>,
    },
}

/// The way in.
#[derive(Clone, Debug)]
pub struct ChatHandle {
    address: Address<ChatMsg>,
    timeout: Duration,
}

impl ChatHandle {
    pub fn new(scope: &Scope) -> Self {
        Self {
            address: Address::new(scope, Chat::NAME),
            timeout: Duration::from_secs(70),
        }
    }

    /// Asks in a conversation; without an id a new one begins. Dropping the future stops the turn.
    ///
    /// # Errors
    /// [`ChatError`]; the conversation is as it was before the question.
    pub async fn ask(
        &self,
        question: impl Into<String>,
        conversation_id: Option<String>,
    ) -> Result<Answer, ChatError> {
        self.turn(question.into(), conversation_id, Turn::default())
            .await
    }

    /// The same without a language model, whatever is configured.
    ///
    /// # Errors
    /// As [`ChatHandle::ask`].
    pub async fn ask_locally(
        &self,
        question: impl Into<String>,
        conversation_id: Option<String>,
    ) -> Result<Answer, ChatError> {
        let turn = Turn {
            local_only: true,
            ..Turn::default()
        };
        self.turn(question.into(), conversation_id, turn).await
    }

    /// The same, telling how it goes. Dropping the future or the receiver stops the turn.
    ///
    /// # Errors
    /// [`ChatError`]; the conversation is as it was before the question.
    pub async fn ask_with_progress(
        &self,
        question: impl Into<String>,
        conversation_id: Option<String>,
        parts: mpsc::Sender<TurnPart>,
    ) -> Result<Answer, ChatError> {
        self.turn(question.into(), conversation_id, Progress::to(parts).into())
            .await
    }

    async fn turn(
        &self,
        question: String,
        conversation_id: Option<String>,
        turn: Turn,
    ) -> Result<Answer, ChatError> {
        let conversation_id = conversation_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        // PostgreSQL keeps no character zero.
        if conversation_id.is_empty()
            || conversation_id.chars().count() > ID_CHARS_MAX
            || conversation_id.contains('\0')
        {
            return Err(ChatError::Id);
        }
        let _stop = turn.progress.stop_token().clone().drop_guard();
        let trace = TraceContext::current();
        let attempts = AtomicU32::new(0);
        let ask = |reply| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            if attempt > 1 {
                turn.progress.retrying(&Step::UNDERSTAND, attempt);
            }
            ChatMsg::Ask {
                question: question.clone(),
                conversation_id: conversation_id.clone(),
                trace: trace.clone(),
                turn: turn.clone(),
                reply,
            }
        };
        tokio::select! {
            // Once the answer is there, a listener that has left misses nothing.
            biased;
            answered = self.address.call(ask, self.timeout) => *answered?,
            () = turn.progress.stopped() => Err(ChatError::Stopped),
        }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Chat;

impl Chat {
    /// The actor's name in its scope.
    pub const NAME: &'static str = "chat";
}

/// What one incarnation knows.
pub struct ChatState {
    args: ChatArgs,
    /// One lock a conversation that is being answered.
    turns: HashMap<String, Weak<Mutex<()>>>,
}

impl Actor for Chat {
    type Msg = ChatMsg;
    type State = ChatState;
    type Arguments = ChatArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(ChatState {
            args,
            turns: HashMap::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChatMsg::Ask {
                question,
                conversation_id,
                trace,
                turn,
                reply,
            } => {
                state.on_ask(question, conversation_id, &trace, turn, reply);
            }
        }
        Ok(())
    }
}

impl ChatState {
    fn on_ask(
        &mut self,
        question: String,
        id: String,
        trace: &TraceContext,
        turn: Turn,
        reply: RpcReplyPort<Box<Result<Answer, ChatError>>>,
    ) {
        let span = tracing::info_span!(
            "invoke_agent chat",
            gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = Chat::NAME,
            gen_ai.conversation.id = %id
        );
        set_parent(&span, trace);
        let lock = self.lock(&id);
        let args = self.args.clone();
        let work = async move {
            let taking = AssertUnwindSafe(async {
                let _turn = lock.lock().await;
                turn::take(&args, &question, &id, &turn).await
            });
            let answered = tokio::select! {
                () = turn.progress.stopped() => return,
                answered = taking.catch_unwind() => answered,
            };
            // A reply port that is dropped has its question asked again: a bug would be met again.
            let answered = answered.unwrap_or(Err(ChatError::Broken));
            // Whoever asked may have gone; the conversation has the answer.
            let _ = reply.send(Box::new(answered));
        };
        tokio::spawn(work.instrument(span));
    }

    fn lock(&mut self, id: &str) -> Arc<Mutex<()>> {
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = self.turns.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Mutex::new(()));
        self.turns.insert(id.to_owned(), Arc::downgrade(&turn));
        turn
    }
}
