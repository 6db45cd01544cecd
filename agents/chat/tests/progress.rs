//! A turn whose analyst is restarted with the question in its hands: the question is asked again,
//! and the step says so. Its model fails: the planner's answer comes, with a notice.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ballpoint_analyst::{Analyst, AnalystHandle, AnalystMsg, Answer, Behaviour};
use ballpoint_chat::{Chat, ChatArgs, ChatError, ChatHandle, Notice, StepState, TurnPart};
use ballpoint_planner::DialogueState;
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

/// Loses the first questions as a restart does, then answers.
#[derive(Clone, Copy)]
struct Forgetful;

struct Memory {
    lost: u32,
    asked: Arc<AtomicU32>,
}

impl Actor for Forgetful {
    type Msg = AnalystMsg;
    type State = Memory;
    type Arguments = (u32, Arc<AtomicU32>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (lost, asked): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(Memory { lost, asked })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let AnalystMsg::Answer {
            question, reply, ..
        } = message;
        if state.asked.fetch_add(1, Ordering::Relaxed) < state.lost {
            return Ok(());
        }
        let answer = Answer {
            behaviour: Behaviour::Answer,
            answer: format!("answered: {question}"),
            notices: vec![Notice {
                level: "warning".into(),
                code: "model_slow".into(),
                text: "The model m did not answer in time; answered by the local planner.".into(),
            }],
            ..Answer::default()
        };
        let _ = reply.send(Box::new(Ok((answer, DialogueState::default()))));
        Ok(())
    }
}

struct Stack {
    chat: ChatHandle,
    asked: Arc<AtomicU32>,
    _tree: TreeHandle,
    _database: TestDatabase,
}

async fn stack(lost: u32) -> Stack {
    let database = TestDatabase::create().await;
    let store = Store::open(database.pool().clone()).await.unwrap();
    let scope = Scope::unique();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let chat_args = ChatArgs {
        store,
        analyst: AnalystHandle::new(&scope),
    };
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(ActorSpec::new(Analyst::NAME, Forgetful, move || {
            (lost, Arc::clone(&counted))
        }))
        .child(ActorSpec::new(Chat::NAME, Chat, move || chat_args.clone()));
    let tree = Tree::start(scope.clone(), root, None).await.unwrap();
    Stack {
        chat: ChatHandle::new(&scope),
        asked,
        _tree: tree,
        _database: database,
    }
}

#[tokio::test]
async fn a_question_lost_in_a_restart_is_asked_again_and_the_step_says_so() {
    let stack = stack(2).await;
    let (sender, mut received) = mpsc::channel(64);
    let answer = stack
        .chat
        .ask_with_progress("how many", None, sender)
        .await
        .unwrap();
    assert_eq!(answer.answer, "answered: how many");
    let mut parts = Vec::new();
    while let Ok(part) = received.try_recv() {
        parts.push(part);
    }
    let retries: Vec<u32> = parts
        .iter()
        .filter_map(|part| match part {
            TurnPart::Step {
                id,
                state: StepState::Retrying,
                attempt,
                ..
            } if id == "planned" => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(retries, [2, 3]);
    let notice = parts.iter().find_map(|part| match part {
        TurnPart::Notice(notice) => Some(notice.code.clone()),
        _ => None,
    });
    assert_eq!(notice.as_deref(), Some("model_slow"));
    assert!(matches!(parts.last(), Some(TurnPart::Text(text)) if *text == answer.answer));
}

#[tokio::test]
async fn a_listener_that_leaves_ends_the_asking() {
    let stack = stack(u32::MAX).await;
    let (sender, received) = mpsc::channel(64);
    let chat = stack.chat.clone();
    let turn = tokio::spawn(async move { chat.ask_with_progress("how many", None, sender).await });
    while stack.asked.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    drop(received);
    assert!(matches!(turn.await.unwrap(), Err(ChatError::Stopped)));
    // Whoever worked for the turn hears of it a little later; then nobody asks any more.
    let mut before = stack.asked.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let now = stack.asked.load(Ordering::Relaxed);
        if now == before {
            break;
        }
        before = now;
    }
}
