//! A stream's checkpoint: the last state that covered its rows, as the connector sent it.

use ballpoint_runtime::segment::Position;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::catalog::ChosenStream;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StreamPosition {
    /// The text of the message's `state`; `None` where the stream is read as a whole each time.
    pub(crate) airbyte: Option<String>,
    /// Counts the states of all streams: the latest is the greatest.
    pub(crate) order: u64,
    /// With another cursor the state means nothing.
    pub(crate) cursor: Vec<String>,
}

impl StreamPosition {
    pub(crate) fn parse(position: &Position) -> Option<Self> {
        serde_json::from_value(position.0.clone()).ok()
    }

    pub(crate) fn into_position(self) -> Position {
        Position(json!(self))
    }
}

/// What `read` is given as its state, and the greatest order in it; `None`: from the beginning.
pub(crate) fn state_file(streams: &[(ChosenStream, Option<Position>)]) -> (Option<String>, u64) {
    let mut known: Vec<(&ChosenStream, u64, String)> = streams
        .iter()
        .filter(|(stream, _)| stream.is_incremental)
        .filter_map(|(stream, position)| {
            let position = StreamPosition::parse(position.as_ref()?)?;
            let state = position.airbyte?;
            (position.cursor == stream.cursor_field).then_some((stream, position.order, state))
        })
        .collect();
    let order = known.iter().map(|(_, order, _)| *order).max().unwrap_or(0);
    known.sort_by_key(|(_, order, _)| *order);
    let kind = |state: &str| -> Value {
        serde_json::from_str::<Value>(state).map_or(Value::Null, |it| it["type"].clone())
    };
    let Some((_, newest, last)) = known.last() else {
        return (None, 0);
    };
    match kind(last).as_str() {
        Some("STREAM") => {
            let of_streams = known.iter().filter(|(.., state)| kind(state) == "STREAM");
            let each: Vec<&str> = of_streams.map(|(.., state)| state.as_str()).collect();
            (Some(format!("[{}]", each.join(","))), order)
        }
        Some("GLOBAL") => {
            let behind: Vec<&ChosenStream> = streams
                .iter()
                .map(|(stream, _)| stream)
                .filter(|stream| {
                    stream.is_incremental
                        && !known
                            .iter()
                            .any(|(it, at, _)| it.name == stream.name && at == newest)
                })
                .collect();
            (Some(format!("[{}]", without(last, &behind))), order)
        }
        // Connectors of that age expect what they sent, bare.
        _ => {
            let data = serde_json::from_str::<Value>(last).map(|it| it["data"].to_string());
            (data.ok(), order)
        }
    }
}

/// A global state as it was sent, but that streams which were left out of it, or were not asked for
/// meanwhile, begin anew: what is shared has moved on without them.
fn without(state: &str, streams: &[&ChosenStream]) -> String {
    let is_behind = |it: &Value| {
        let descriptor = &it["stream_descriptor"];
        streams.iter().any(|stream| {
            descriptor["name"] == stream.name.name.as_str()
                && descriptor["namespace"].as_str() == stream.name.namespace.as_deref()
        })
    };
    let Ok(mut value) = serde_json::from_str::<Value>(state) else {
        return state.to_owned();
    };
    match value["global"]["stream_states"].as_array_mut() {
        Some(states) if states.iter().any(is_behind) => {
            states.retain(|it| !is_behind(it));
            value.to_string()
        }
        _ => state.to_owned(),
    }
}
