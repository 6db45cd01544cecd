//! One turn: the dialogue so far is read, the question answered, both kept together.

use ballpoint_analyst::Answer;
use ballpoint_analyst::progress::{Step, Turn, TurnPart};
use ballpoint_planner::DialogueState;
use ballpoint_runtime::trace::TraceContext;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::actor::{ChatArgs, ChatError};

/// How often a question is answered anew because its conversation went on elsewhere meanwhile.
const ATTEMPTS_MAX: usize = 4;

/// What an assistant's message holds: the answer as it was given, and where the dialogue stands.
#[derive(Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) answer: Answer,
    pub(crate) state: DialogueState,
    #[serde(default)]
    pub(crate) message_id: String,
}

/// Answers a question in a conversation and keeps both, or neither.
///
/// A conversation has one order, whoever asks: the turn is kept only if its conversation still ends
/// where this turn has read it. Otherwise the question is answered again in the light of what came
/// in between. No connection is held while the turn runs.
pub(crate) async fn take(
    args: &ChatArgs,
    question: &str,
    id: &str,
    turn: &Turn,
) -> Result<Answer, ChatError> {
    let progress = &turn.progress;
    let message_id = Uuid::now_v7().to_string();
    progress
        .report(TurnPart::Started {
            conversation_id: id.to_owned(),
            message_id: message_id.clone(),
            trace_id: TraceContext::current().trace_id().map(str::to_owned),
        })
        .await;
    let conversations = args.store.conversations();
    for _ in 0..ATTEMPTS_MAX {
        let step = progress.begin(Step::UNDERSTAND).await;
        let last = conversations.messages(id, 1).await?.pop();
        let seq = last.as_ref().map_or(0, |message| message.seq);
        // A state that an older version wrote starts the dialogue anew rather than failing it.
        let state = last
            .and_then(|message| serde_json::from_value::<Said>(message.content).ok())
            .map(|said| said.state)
            .unwrap_or_default();
        step.done(if seq == 0 {
            "Read the question"
        } else {
            "Read the question and what was said before"
        })
        .await;
        let (mut answer, state) = args.analyst.answer(question, &state, turn).await?;
        id.clone_into(&mut answer.conversation_id);
        let asked = json!({ "text": question });
        let said = json!(Said {
            answer: answer.clone(),
            state,
            message_id: message_id.clone(),
        });
        let pair = [("user", &asked), ("assistant", &said)];
        // Both or neither: a question without its answer would begin the next one anew.
        if conversations.append_after(id, seq, &pair).await? {
            for notice in &answer.notices {
                progress.report(TurnPart::Notice(notice.clone())).await;
            }
            progress.report(TurnPart::Text(answer.answer.clone())).await;
            return Ok(answer);
        }
    }
    Err(ChatError::Moving)
}
