//! `GET /api/events`: everything that changes, as one feed of server-sent events.
//!
//! The broadcast within the process can be missed, the rows of `ballpoint.events` cannot: who comes
//! back with `Last-Event-ID` gets the rows since then first. A reader that is too slow for the
//! broadcast is told how much it missed, and reads again what it shows.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use ballpoint_runtime::store::RecordedEvent;
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::app::App;
use crate::error::ApiError;
use crate::table::{Route, VIEWER, get};

/// A comment on a quiet feed, so that neither end takes the other for gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Rows that a reader who comes back is given; one that was away longer reads anew.
const BACKLOG_MAX: u32 = 1000;

pub(super) fn routes() -> Vec<Route> {
    vec![get("/api/events", VIEWER, events)]
}

#[utoipa::path(get, path = "/api/events", tag = "system",
    params(("Last-Event-ID" = Option<i64>, Header, description = "the last event that was seen")),
    responses((status = 200, content_type = "text/event-stream", body = String,
        description = "`event:` is the event's type, `id:` its row, `data:` the recorded event; \
                       `event: lag` with `{dropped}` when the reader is too slow")))]
pub(crate) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let last = match headers.get("last-event-id") {
        None => None,
        Some(id) => Some(
            id.to_str()
                .ok()
                .and_then(|id| id.parse::<i64>().ok())
                .ok_or_else(|| ApiError::bad_request("Last-Event-ID is the id of an event"))?,
        ),
    };
    // First the broadcast, then the rows: what happens in between is in both, and sent once.
    let live = app.store.events().subscribe();
    let (backlog, seen) = match last {
        None => (Vec::new(), HashSet::new()),
        Some(last) => backlog(&app, last).await?,
    };
    let first = backlog.into_iter().map(|it| Ok(it.unwrap_or_else(lag)));
    let live = follow(live, seen);
    let feed = Sse::new(stream::iter(first).chain(live))
        .keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive"));
    Ok(([("x-accel-buffering", "no")], feed))
}

/// The rows after `last`, and their numbers. An `Err` is a gap.
async fn backlog(
    app: &App,
    last: i64,
) -> Result<(Vec<Result<Event, u64>>, HashSet<i64>), ApiError> {
    let rows = app.store.events().recent(BACKLOG_MAX, last).await?;
    let seen = rows.iter().map(|row| row.id).collect();
    let mut backlog = Vec::new();
    if rows.len() == BACKLOG_MAX as usize {
        let dropped = rows[0].id.saturating_sub(last + 1);
        backlog.push(Err(u64::try_from(dropped).unwrap_or_default()));
    }
    backlog.extend(rows.iter().map(|row| Ok(event(row))));
    Ok((backlog, seen))
}

fn follow(
    live: Receiver<RecordedEvent>,
    seen: HashSet<i64>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((live, seen), |(mut live, seen)| async move {
        loop {
            let next = match live.recv().await {
                Ok(recorded) if seen.contains(&recorded.id) => continue,
                Ok(recorded) => event(&recorded),
                Err(RecvError::Lagged(dropped)) => lag(dropped),
                Err(RecvError::Closed) => return None,
            };
            return Some((Ok(next), (live, seen)));
        }
    })
}

fn event(recorded: &RecordedEvent) -> Event {
    let data = json!(recorded);
    let name = data["event"]["type"].as_str().unwrap_or("event").to_owned();
    let event = Event::default().event(name).data(text(&data));
    match recorded.id {
        // It has no row that a reader could come back to.
        0 => event,
        id => event.id(id.to_string()),
    }
}

/// So many events were not sent: what is shown may be old.
fn lag(dropped: u64) -> Event {
    Event::default()
        .event("lag")
        .data(text(&json!({ "dropped": dropped })))
}

fn text(data: &Value) -> String {
    data.to_string()
}
