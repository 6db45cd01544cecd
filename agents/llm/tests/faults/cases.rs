//! The table of cases: what the server does, and what that ends in.

use std::time::Duration;

use ballpoint_llm::Limits;
use ballpoint_llm::testing::{Act, Piece, call, call_text, chunks, completion};
use serde_json::{Value, json};

use crate::{changed, hasty, limits, right};

fn stream_of(texts: &[&str]) -> Act {
    Act::Stream(texts.iter().map(|it| Piece::text(it)).collect())
}

/// What a case ends in.
pub(crate) enum Ends {
    /// The right query, by the model.
    Right,
    /// The planner's refusal, for this reason.
    Planner(&'static str),
    /// The planner's refusal with the model's agreement.
    Refused,
    /// A question back with both readings.
    Asked,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) acts: Vec<Act>,
    pub(crate) limits: Limits,
    pub(crate) ends: Ends,
    /// Requests that the server saw, retries and repairs included.
    pub(crate) requests: usize,
}

fn case(name: &'static str, acts: Vec<Act>, ends: Ends, requests: usize) -> Case {
    Case {
        name,
        acts,
        limits: limits(),
        ends,
        requests,
    }
}

pub(crate) fn good() -> Act {
    Act::Complete(call("query_metrics", &right()))
}

fn status(code: u16, body: &str) -> Act {
    Act::Status(code, Vec::new(), body.to_owned())
}

/// Replies that are right, in every form in which servers give them.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn right_replies() -> Vec<Case> {
    let args = right().to_string();
    let delta = |text: &str| {
        Piece::event(
            &json!({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":text}}]}}]}),
        )
    };
    let open = Piece::event(
        &json!({"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"query_metrics"}}]}}]}),
    );
    let letters: Vec<Piece> = std::iter::once(open.clone())
        .chain(args.chars().map(|c| delta(&c.to_string())))
        .collect();
    // A multi-byte letter cut in two, in a reply that also speaks.
    let spoken =
        "data: {\"choices\":[{\"delta\":{\"content\":\"Na klar – München\"}}]}\n\n".as_bytes();
    let cut = spoken.iter().position(|byte| *byte == 0xC3).unwrap() + 1;
    let mut halves = vec![
        Piece::Bytes(spoken[..cut].to_vec()),
        Piece::Bytes(spoken[cut..].to_vec()),
    ];
    halves.extend(chunks(&call("query_metrics", &right())));
    let mut kept_alive = vec![
        Piece::text(": keep-alive\n\n"),
        open,
        Piece::text(": ping\n\n"),
    ];
    kept_alive.extend([delta(&args), Piece::text("data: [DONE]\n\n")]);
    let mut unfinished = chunks(&call("query_metrics", &right()));
    unfinished.pop();
    let mut strange = call("query_metrics", &right());
    strange["choices"][0]["finish_reason"] = json!("eos_token");
    strange["service_tier"] = json!({"odd": 1});
    strange["created"] = json!("yesterday");
    let mut twice = call("query_metrics", &right());
    let again = twice["choices"][0]["message"]["tool_calls"][0].clone();
    twice["choices"][0]["message"]["tool_calls"] = json!([again, again]);
    let text = format!("Here you are:\n```json\n{args}\n```");
    let object = json!({"choices":[{"message":{"tool_calls":[{"id":"c","function":{"name":"query_metrics","arguments":right()}}]}}]});
    let busy = |after: &str| Act::Status(429, vec![("retry-after", after.to_owned())], "{}".into());
    vec![
        case("streamed", vec![good()], Ends::Right, 1),
        case(
            "in one piece",
            vec![Act::Whole(call("query_metrics", &right()))],
            Ends::Right,
            1,
        ),
        case(
            "arguments letter by letter",
            vec![Act::Stream(letters)],
            Ends::Right,
            1,
        ),
        case(
            "a letter cut in two",
            vec![Act::Stream(halves)],
            Ends::Right,
            1,
        ),
        case(
            "kept alive by comments",
            vec![Act::Stream(kept_alive)],
            Ends::Right,
            1,
        ),
        case(
            "without [DONE]",
            vec![Act::Stream(unfinished)],
            Ends::Right,
            1,
        ),
        case(
            "an unknown finish_reason and odd fields",
            vec![Act::Complete(strange)],
            Ends::Right,
            1,
        ),
        case(
            "the same call twice",
            vec![Act::Complete(twice)],
            Ends::Right,
            1,
        ),
        case(
            "a call written as text",
            vec![Act::Complete(completion(json!({"content": text}), "stop"))],
            Ends::Right,
            1,
        ),
        case(
            "arguments as an object",
            vec![Act::Whole(object)],
            Ends::Right,
            1,
        ),
        case("busy, then not", vec![busy("0"), good()], Ends::Right, 2),
        case(
            "busy without a time",
            vec![status(429, "{}"), good()],
            Ends::Right,
            2,
        ),
        case(
            "failed once",
            vec![status(500, "{\"error\":{\"message\":\"x\"}}"), good()],
            Ends::Right,
            2,
        ),
        case(
            "a proxy's page once",
            vec![status(502, "<html>bad gateway</html>"), good()],
            Ends::Right,
            2,
        ),
    ]
}

/// Replies that the model mends, or does not.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn wrong_replies() -> Vec<Case> {
    let query = |query: Value| Act::Complete(call("query_metrics", &query));
    let broken = || Act::Complete(call_text("query_metrics", "{\"measures\": [\"Shop.chu"));
    let unknown = || query(changed("/measures/0", json!("Shop.profit")));
    let mut parallel = call("query_metrics", &right());
    let mut other = parallel["choices"][0]["message"]["tool_calls"][0].clone();
    other["function"]["arguments"] = json!("{\"measures\":[\"Shop.revenue\"]}");
    other["id"] = json!("call_2");
    parallel["choices"][0]["message"]["tool_calls"]
        .as_array_mut()
        .unwrap()
        .push(other);
    let parallel = || Act::Complete(parallel.clone());
    let prose = || {
        Act::Complete(completion(
            json!({"content": "It was 4711 clients."}),
            "stop",
        ))
    };
    let tool = || Act::Complete(call("run_sql", &json!({"sql": "drop table clients"})));
    let types = query(json!({"measures": {"a": 1}, "limit": [], "filters": 7}));
    let value = || query(changed("/filters/0/values", json!(["atlantis"])));
    vec![
        case(
            "malformed JSON, mended",
            vec![broken(), good()],
            Ends::Right,
            2,
        ),
        case(
            "malformed JSON for good",
            vec![broken()],
            Ends::Planner("model_unreadable"),
            4,
        ),
        case(
            "an unknown member, mended",
            vec![unknown(), good()],
            Ends::Right,
            2,
        ),
        case(
            "an unknown member for good",
            vec![unknown()],
            Ends::Planner("model_invalid"),
            4,
        ),
        case(
            "a value that is not in the data",
            vec![value(), good()],
            Ends::Right,
            2,
        ),
        case("wrong types, mended", vec![types, good()], Ends::Right, 2),
        case(
            "two different calls, mended",
            vec![parallel(), good()],
            Ends::Right,
            2,
        ),
        case(
            "two different calls for good",
            vec![parallel()],
            Ends::Planner("model_invalid"),
            4,
        ),
        case(
            "prose with a figure of its own",
            vec![prose()],
            Ends::Planner("model_unreadable"),
            4,
        ),
        case(
            "a tool that does not exist",
            vec![tool()],
            Ends::Planner("model_invalid"),
            4,
        ),
        case(
            "a refusal",
            vec![Act::Complete(completion(
                json!({"refusal": "I cannot."}),
                "stop",
            ))],
            Ends::Refused,
            1,
        ),
        case(
            "the refuse tool",
            vec![Act::Complete(call("refuse", &json!({"reason": "x"})))],
            Ends::Refused,
            1,
        ),
        case(
            "a content filter",
            vec![Act::Complete(completion(
                json!({"content": null}),
                "content_filter",
            ))],
            Ends::Refused,
            1,
        ),
        case(
            "another day than was said",
            vec![query(changed(
                "/timeDimensions/0/dateRange",
                json!(["2026-03-01", "2026-03-31"]),
            ))],
            Ends::Asked,
            1,
        ),
        case(
            "no day though one was said",
            vec![query(changed("/timeDimensions", json!([])))],
            Ends::Asked,
            1,
        ),
        case(
            "another member than was said",
            vec![query(changed("/filters/0/values", json!(["south"])))],
            Ends::Asked,
            1,
        ),
        case(
            "a member turned around",
            vec![query(changed("/filters/0/operator", json!("notEquals")))],
            Ends::Asked,
            1,
        ),
        case(
            "a member left out",
            vec![query(changed("/filters", json!([])))],
            Ends::Asked,
            1,
        ),
    ]
}

/// Servers that do not reply.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn failures() -> Vec<Case> {
    let quota = "{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"no money\"}}";
    let hello = "data: {\"choices\":[{\"delta\":{\"content\":\"Hm\"}}]}\n\n";
    let quick = |case: Case| Case {
        limits: hasty(),
        ..case
    };
    let endless: Vec<Piece> = (0..200)
        .map(|_| Piece::event(&json!({"choices":[{"delta":{"content": "x".repeat(8192)}}]})))
        .collect();
    let long = |after: &str| Act::Status(429, vec![("retry-after", after.to_owned())], "{}".into());
    vec![
        case(
            "a wrong key",
            vec![status(401, "{}")],
            Ends::Planner("model_unauthorised"),
            1,
        ),
        case(
            "an unknown model",
            vec![status(404, "not here")],
            Ends::Planner("model_not_found"),
            1,
        ),
        case(
            "no quota",
            vec![status(429, quota)],
            Ends::Planner("model_no_quota"),
            1,
        ),
        case(
            "busy for longer than a turn",
            vec![long("3600")],
            Ends::Planner("model_busy"),
            1,
        ),
        case(
            "busy for good",
            vec![long("0")],
            Ends::Planner("model_busy"),
            3,
        ),
        case(
            "failing for good",
            vec![status(500, "oops")],
            Ends::Planner("model_failed"),
            3,
        ),
        case(
            "a proxy's page for good",
            vec![status(502, "<html>")],
            Ends::Planner("model_failed"),
            3,
        ),
        case(
            "a bad request",
            vec![status(400, "{}")],
            Ends::Planner("model_failed"),
            1,
        ),
        case(
            "no choices",
            vec![Act::Whole(json!({"choices": []}))],
            Ends::Planner("model_empty"),
            1,
        ),
        case(
            "an empty stream",
            vec![stream_of(&["data: [DONE]\n\n"])],
            Ends::Planner("model_empty"),
            1,
        ),
        case(
            "no JSON at all",
            vec![stream_of(&["data: <html>\n\n"])],
            Ends::Planner("model_unreadable"),
            1,
        ),
        case(
            "a page instead of a reply",
            vec![status(200, "<html>login</html>")],
            Ends::Planner("model_unreadable"),
            1,
        ),
        case(
            "an error in the stream",
            vec![stream_of(&[
                hello,
                "data: {\"error\":{\"message\":\"overloaded\"}}\n\n",
            ])],
            Ends::Planner("model_reported_error"),
            1,
        ),
        case(
            "a reset",
            vec![Act::Stream(vec![Piece::text(hello), Piece::Reset])],
            Ends::Planner("model_broken"),
            1,
        ),
        case(
            "an endless reply",
            vec![Act::Stream(endless)],
            Ends::Planner("model_too_long"),
            1,
        ),
        case(
            "an endless piece",
            vec![status(200, &"x".repeat(1 << 20))],
            Ends::Planner("model_too_long"),
            1,
        ),
        quick(case(
            "a slow first byte",
            vec![Act::After(Duration::from_secs(120), Box::new(good()))],
            Ends::Planner("model_slow"),
            1,
        )),
        quick(case(
            "a stall",
            vec![Act::Stream(vec![Piece::text(hello), Piece::Stall])],
            Ends::Planner("model_slow"),
            1,
        )),
    ]
}
