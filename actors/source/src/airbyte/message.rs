//! The messages of the Airbyte protocol, read leniently: unknown fields, and messages that nobody needs,
//! are passed over; versions of the connector kit differ in both.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A line that a connector wrote.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    Record(Record<'a>),
    State(State),
    Log {
        level: String,
        text: String,
    },
    Error(TraceError),
    Status {
        stream: StreamName,
        status: Status,
    },
    Estimate {
        stream: StreamName,
        rows: u64,
    },
    /// The connector has changed its own configuration.
    NewConfig(Value),
    Spec(Value),
    Connection {
        succeeded: bool,
        text: String,
    },
    Catalog(Value),
    /// Of the protocol, and of no use here.
    Other,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Record<'a> {
    #[serde(borrow)]
    pub(crate) stream: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) data: &'a RawValue,
}

/// A stream as messages name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub(crate) struct StreamName {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

/// Up to where the source would go on.
#[derive(Debug)]
pub(crate) struct State {
    /// `None`: of all streams.
    pub(crate) stream: Option<StreamName>,
    /// As it was sent, to be sent back.
    pub(crate) raw: String,
    /// Records since the state before it, as the source counts them.
    pub(crate) record_count: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct TraceError {
    pub(crate) stream: Option<StreamName>,
    pub(crate) text: String,
    /// What the connector's users can mend themselves.
    pub(crate) is_config: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Started,
    Running,
    Complete,
    Incomplete,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    record: Option<&'a RawValue>,
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(default)]
    log: Option<Value>,
    #[serde(default)]
    trace: Option<Value>,
    #[serde(default)]
    control: Option<Value>,
    #[serde(default)]
    spec: Option<Value>,
    #[serde(rename = "connectionStatus", default)]
    connection_status: Option<Value>,
    #[serde(default)]
    catalog: Option<Value>,
}

/// Reads a line; `None` when it is no message.
pub(crate) fn parse(line: &[u8]) -> Option<Message<'_>> {
    let line = std::str::from_utf8(line).ok()?.trim();
    if !line.starts_with('{') {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_str(line).ok()?;
    match envelope.kind.as_ref() {
        "RECORD" => serde_json::from_str(envelope.record?.get())
            .ok()
            .map(Message::Record),
        "STATE" => state(envelope.state?.get()).map(Message::State),
        "LOG" => Some(log(&envelope.log?)),
        "TRACE" => Some(trace(&envelope.trace?)),
        "CONTROL" => {
            let config = envelope.control?["connectorConfig"]["config"].take();
            Some(match config.is_object() {
                true => Message::NewConfig(config),
                false => Message::Other,
            })
        }
        "SPEC" => envelope.spec.map(Message::Spec),
        "CONNECTION_STATUS" => {
            let status = envelope.connection_status?;
            Some(Message::Connection {
                succeeded: status["status"] == "SUCCEEDED",
                text: text(&status["message"]),
            })
        }
        "CATALOG" => envelope.catalog.map(Message::Catalog),
        _ => Some(Message::Other),
    }
}

fn state(raw: &str) -> Option<State> {
    let value: Value = serde_json::from_str(raw).ok()?;
    let kind = value["type"].as_str().unwrap_or("LEGACY");
    let descriptor = &value["stream"]["stream_descriptor"];
    let stream = (kind == "STREAM")
        .then(|| StreamName::deserialize(descriptor))
        .transpose()
        .ok()?;
    Some(State {
        stream,
        raw: raw.to_owned(),
        record_count: value["sourceStats"]["recordCount"].as_f64(),
    })
}

fn log(log: &Value) -> Message<'static> {
    Message::Log {
        level: text(&log["level"]),
        text: text(&log["message"]),
    }
}

fn trace(trace: &Value) -> Message<'static> {
    let stream = |of: &Value| StreamName::deserialize(of).ok();
    match trace["type"].as_str().unwrap_or_default() {
        "ERROR" => {
            let error = &trace["error"];
            let (said, inside) = (text(&error["message"]), text(&error["internal_message"]));
            let text = match (said.is_empty(), inside.is_empty() || said.contains(&inside)) {
                (true, _) => inside,
                (false, true) => said,
                (false, false) => format!("{said} ({inside})"),
            };
            Message::Error(TraceError {
                stream: stream(&error["stream_descriptor"]),
                text,
                is_config: error["failure_type"] == "config_error",
            })
        }
        "STREAM_STATUS" => {
            let said = &trace["stream_status"];
            let status = match said["status"].as_str() {
                Some("STARTED") => Status::Started,
                Some("RUNNING") => Status::Running,
                Some("COMPLETE") => Status::Complete,
                Some("INCOMPLETE") => Status::Incomplete,
                _ => return Message::Other,
            };
            match stream(&said["stream_descriptor"]) {
                Some(stream) => Message::Status { stream, status },
                None => Message::Other,
            }
        }
        "ESTIMATE" => {
            let said = &trace["estimate"];
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an estimate; out of range it saturates"
            )]
            let rows = said["row_estimate"].as_f64().map(|rows| rows as u64);
            match (stream(said), rows) {
                (Some(stream), Some(rows)) => Message::Estimate { stream, rows },
                _ => Message::Other,
            }
        }
        _ => Message::Other,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_record_keeps_its_data_as_it_was_written() {
        let line = br#"{"type":"RECORD","record":{"stream":"u\u0073ers","data":{"n":1.10},"emitted_at":1795422000207.208,"new":1}}"#;
        let Some(Message::Record(record)) = parse(line) else {
            panic!("no record");
        };
        assert_eq!(
            (record.stream.as_ref(), record.data.get()),
            ("users", "{\"n\":1.10}")
        );
    }

    #[test]
    fn states_of_streams_of_everything_and_of_old_connectors_are_told_apart() {
        let of = |text: &str| match parse(text.as_bytes()) {
            Some(Message::State(state)) => state,
            other => panic!("{other:?}"),
        };
        let stream = of(
            r#"{"type": "STATE", "state": {"type": "STREAM", "stream": {"stream_descriptor": {"name": "users", "namespace": null}, "stream_state": {"id": 7}}, "sourceStats": {"recordCount": 100.0}}}"#,
        );
        assert_eq!(stream.stream.unwrap().name, "users");
        assert_eq!(stream.record_count, Some(100.0));
        assert!(stream.raw.contains("\"id\": 7"));
        let global =
            of(r#"{"type":"STATE","state":{"type":"GLOBAL","global":{"shared_state":{}}}}"#);
        assert!(global.stream.is_none());
        let legacy = of(r#"{"type":"STATE","state":{"data":{"at":3}}}"#);
        assert!(legacy.stream.is_none());
    }

    #[test]
    fn what_is_no_message_is_none_and_what_is_unknown_is_passed_over() {
        for garbage in ["", "Traceback:", "[1]", "{\"a\":1}", "{", "\u{fffd}"] {
            assert!(parse(garbage.as_bytes()).is_none(), "{garbage}");
        }
        assert!(parse(&[0xff, 0xfe]).is_none());
        assert!(matches!(parse(br#"{"type":"NEWS"}"#), Some(Message::Other)));
        assert!(matches!(
            parse(br#"{"type":"TRACE","trace":{"type":"ANALYTICS"}}"#),
            Some(Message::Other)
        ));
    }

    #[test]
    fn a_trace_tells_what_failed_and_where() {
        let line = br#"{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"no access","internal_message":"HTTP 403","failure_type":"config_error","stream_descriptor":{"name":"users"}}}}"#;
        let Some(Message::Error(error)) = parse(line) else {
            panic!("no error");
        };
        assert_eq!(error.text, "no access (HTTP 403)");
        assert!(error.is_config);
        assert_eq!(error.stream.unwrap().name, "users");
    }
}
