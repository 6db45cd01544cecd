//! Actor `chat`: conversations.
//!
//! **In**: [`ChatMsg::Ask`]. **Out**: the answer; two messages in `ballpoint.messages`. The state of
//! a dialogue is part of its last message, so a restart loses nothing. Questions of one conversation
//! are answered one after the other, in tasks that outlive this actor.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ballpoint_analyst::{AnalystHandle, Answer, AskError};
use ballpoint_planner::DialogueState;
use ballpoint_runtime::store::{Store, StoreError};
use ballpoint_runtime::supervision::{Address, AddressError, Scope};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::Instrument;
use uuid::Uuid;

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
    #[error("a conversation id has 1 to {ID_CHARS_MAX} characters")]
    Id,
}

/// Messages of the chat.
pub enum ChatMsg {
    /// Answer a question in a conversation.
    Ask {
        question: String,
        conversation_id: String,
        trace: TraceContext,
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

    /// Asks in a conversation; without an id a new one begins.
    ///
    /// # Errors
    /// [`ChatError`]; the conversation is as it was before the question.
    pub async fn ask(
        &self,
        question: impl Into<String>,
        conversation_id: Option<String>,
    ) -> Result<Answer, ChatError> {
        let question = question.into();
        let conversation_id = conversation_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        if conversation_id.is_empty() || conversation_id.chars().count() > ID_CHARS_MAX {
            return Err(ChatError::Id);
        }
        let trace = TraceContext::current();
        let ask = |reply| ChatMsg::Ask {
            question: question.clone(),
            conversation_id: conversation_id.clone(),
            trace: trace.clone(),
            reply,
        };
        *self.address.call(ask, self.timeout).await?
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
                reply,
            } => {
                state.on_ask(question, conversation_id, &trace, reply);
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
        reply: RpcReplyPort<Box<Result<Answer, ChatError>>>,
    ) {
        let span = tracing::info_span!(
            "invoke_agent chat",
            gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = Chat::NAME,
            gen_ai.conversation.id = %id
        );
        set_parent(&span, trace);
        let turn = self.turn(&id);
        let args = self.args.clone();
        let work = async move {
            let _turn = turn.lock().await;
            let answered = answer(&args, &question, id).await;
            // Whoever asked may have gone; the conversation has the answer.
            let _ = reply.send(Box::new(answered));
        };
        tokio::spawn(work.instrument(span));
    }

    fn turn(&mut self, id: &str) -> Arc<Mutex<()>> {
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = self.turns.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Mutex::new(()));
        self.turns.insert(id.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// What an assistant's message holds: the answer as it was given, and where the dialogue stands.
#[derive(Serialize, Deserialize)]
struct Said {
    answer: Answer,
    state: DialogueState,
}

async fn answer(args: &ChatArgs, question: &str, id: String) -> Result<Answer, ChatError> {
    let conversations = args.store.conversations();
    let last = conversations.messages(&id, 1).await?.pop();
    // A state that an older version wrote starts the dialogue anew rather than failing it.
    let state = last
        .and_then(|message| serde_json::from_value::<Said>(message.content).ok())
        .map(|said| said.state)
        .unwrap_or_default();
    let (mut answer, state) = args.analyst.answer(question, &state).await?;
    answer.conversation_id.clone_from(&id);
    let asked = json!({ "text": question });
    let said = json!(Said {
        answer: answer.clone(),
        state
    });
    // Both or neither: a question without its answer would begin the next one anew.
    conversations
        .append_all(&id, &[("user", &asked), ("assistant", &said)])
        .await?;
    Ok(answer)
}
