//! A model's reply, put together from the pieces in which it comes.
//!
//! Compatible servers differ in what they leave out and in the types of what nobody reads, so
//! nothing here is required and nothing fails: what a reply lacks shows when it is used.

use serde_json::{Value, json};

/// Calls beyond these are not read.
const CALLS_MAX: usize = 16;

/// What came, as far as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) refusal: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    /// The server reported an error in the middle.
    pub(crate) failed: bool,
}

/// A call of a tool; its arguments are JSON if the model is able to write it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
    pub(crate) index: Option<u64>,
}

impl Reply {
    /// Adds a piece: a chunk of a stream or a whole completion.
    pub(crate) fn add(&mut self, piece: &Value) {
        if !piece["error"].is_null() {
            self.failed = true;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.id = self.id.take().or_else(|| text(&piece["id"]));
        self.model = self.model.take().or_else(|| text(&piece["model"]));
        let usage = &piece["usage"];
        self.input_tokens = usage["prompt_tokens"].as_u64().or(self.input_tokens);
        self.output_tokens = usage["completion_tokens"].as_u64().or(self.output_tokens);
        // Only one choice is asked for.
        let choice = &piece["choices"][0];
        self.finish_reason = text(&choice["finish_reason"]).or(self.finish_reason.take());
        for message in [&choice["delta"], &choice["message"]] {
            self.text
                .push_str(message["content"].as_str().unwrap_or_default());
            self.refusal
                .push_str(message["refusal"].as_str().unwrap_or_default());
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                self.call(call);
            }
            if message["function_call"].is_object() {
                self.call(&json!({ "index": 0, "function": message["function_call"] }));
            }
        }
    }

    /// A piece of a call belongs to the call of its index; without one, to the last, unless it
    /// brings an id of its own.
    fn call(&mut self, piece: &Value) {
        let index = piece["index"].as_u64();
        let id = piece["id"].as_str().unwrap_or_default();
        let function = &piece["function"];
        let at = match index {
            Some(_) => self.calls.iter().position(|it| it.index == index),
            None if id.is_empty() => self.calls.len().checked_sub(1),
            None => self.calls.iter().position(|it| it.id == id),
        };
        let at = match at {
            Some(at) => at,
            None if self.calls.len() == CALLS_MAX => return,
            None => {
                self.calls.push(Call {
                    index,
                    ..Call::default()
                });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if call.name.is_empty() {
            function["name"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut call.name);
        }
        match &function["arguments"] {
            Value::String(more) => call.arguments.push_str(more),
            Value::Object(whole) => call.arguments = Value::Object(whole.clone()).to_string(),
            _ => {}
        }
    }

    /// The calls, those included that a model wrote into its text because it knows no tools.
    pub(crate) fn calls(&self) -> Vec<Call> {
        if !self.calls.is_empty() {
            return self.calls.clone();
        }
        written(&self.text).into_iter().collect()
    }

    /// As the assistant's message of the next request.
    pub(crate) fn message(&self) -> Value {
        if self.calls.is_empty() {
            return json!({ "role": "assistant", "content": self.text });
        }
        let calls: Vec<Value> = self
            .calls
            .iter()
            .map(|it| json!({ "id": it.id, "type": "function", "function": { "name": it.name, "arguments": it.arguments } }))
            .collect();
        json!({ "role": "assistant", "content": null, "tool_calls": calls })
    }
}

/// A call or a query written out as JSON, in a code fence or without.
fn written(text: &str) -> Option<Call> {
    let (from, to) = (text.find('{')?, text.rfind('}')?);
    let value: Value = serde_json::from_str(text.get(from..=to)?).ok()?;
    let arguments = [&value["arguments"], &value["parameters"]]
        .into_iter()
        .find(|it| it.is_object());
    let (name, arguments) = match (value["name"].as_str(), arguments) {
        (Some(name), Some(arguments)) => (name, arguments),
        (None, _) if value["measures"].is_array() => ("query_metrics", &value),
        _ => return None,
    };
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.to_string(),
        ..Call::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_in_pieces_is_one_call() {
        let mut reply = Reply::default();
        for piece in [
            json!({"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"q","arguments":"{\"me"}}]}}]}),
            json!({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"asures\":[]}"}}]}}]}),
            json!({"choices":[{"delta":{},"finish_reason":"tool_calls"}]}),
            json!({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}),
        ] {
            reply.add(&piece);
        }
        assert_eq!(reply.calls.len(), 1);
        assert_eq!(reply.calls[0].arguments, "{\"measures\":[]}");
        assert_eq!(
            (reply.input_tokens, reply.output_tokens),
            (Some(3), Some(4))
        );
    }

    #[test]
    fn a_call_written_as_text_is_a_call() {
        let mut reply = Reply::default();
        reply.add(&json!({"choices":[{"message":{"content":"Sure:\n```json\n{\"measures\": [\"A.b\"]}\n```"}}]}));
        assert_eq!(reply.calls()[0].name, "query_metrics");
    }

    #[test]
    fn wrong_types_are_read_as_nothing() {
        let mut reply = Reply::default();
        reply.add(&json!({"id": 7, "choices": {"0": []}, "usage": "many"}));
        reply.add(&json!({"choices":[{"delta":{"content": 5, "tool_calls": "none"}}]}));
        assert_eq!(reply, Reply::default());
    }
}
