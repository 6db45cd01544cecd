//! The live feed: what a reader gets at once, after a break, and when it is too slow.

use axum::body::Body;
use axum::http::{Response, header};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::trace::TraceContext;
use futures_util::StreamExt;

use super::support::{OWNER, PATIENCE, Stack, text};

fn changed(source: &str) -> Event {
    Event::SourceRecovered {
        source: source.to_owned(),
    }
}

/// Reads a feed until its text holds `wanted`; all that was read.
async fn until(reply: Response<Body>, wanted: &str) -> String {
    let mut body = reply.into_body().into_data_stream();
    let mut read = String::new();
    let reading = async {
        while !read.contains(wanted) {
            let piece = body.next().await.expect("the feed goes on").unwrap();
            read.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, reading).await;
    assert!(in_time.is_ok(), "{wanted} did not come: {read}");
    read
}

async fn open(stack: &Stack, last: Option<i64>) -> Response<Body> {
    let mut request = Stack::request("GET", "/api/events", Some(OWNER));
    if let Some(last) = last {
        let id = header::HeaderValue::from(last);
        request.headers_mut().insert("last-event-id", id);
    }
    let reply = stack.send(request).await;
    assert!(text(reply.headers(), "content-type").starts_with("text/event-stream"));
    reply
}

async fn publish(stack: &Stack, source: &str) -> i64 {
    let events = stack.store.events();
    let recorded = events
        .publish(changed(source), TraceContext::default())
        .await;
    recorded.unwrap().id
}

#[tokio::test]
async fn an_event_is_told_with_its_type_its_row_and_what_happened() {
    let stack = Stack::start().await;
    let feed = open(&stack, None).await;
    let id = publish(&stack, "north").await;
    let read = until(feed, "north").await;
    assert!(read.contains("event: source_recovered\n"), "{read}");
    assert!(read.contains(&format!("id: {id}\n")), "{read}");
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_once_and_then_what_is_new() {
    let stack = Stack::start().await;
    let seen = publish(&stack, "seen").await;
    publish(&stack, "missed").await;
    let feed = open(&stack, Some(seen)).await;
    publish(&stack, "new").await;
    let read = until(feed, "\"new\"").await;
    assert!(!read.contains("\"seen\""), "{read}");
    assert_eq!(read.matches("\"missed\"").count(), 1, "{read}");
}

#[tokio::test]
async fn who_is_too_slow_is_told_how_much_was_dropped() {
    let stack = Stack::start().await;
    let feed = open(&stack, None).await;
    let recorded = stack
        .store
        .events()
        .publish(changed("many"), TraceContext::default())
        .await
        .unwrap();
    for _ in 0..3000 {
        stack.store.events().announce(recorded.clone());
    }
    let read = until(feed, "event: lag").await;
    assert!(read.contains("\"dropped\":"), "{read}");
}
