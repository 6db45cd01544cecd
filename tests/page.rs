//! The page in a real browser: a question, its answer with chart, rows, query and SQL.

use std::process::Command;

use crate::support::{Folder, Stack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_in_the_browser_shows_chart_rows_query_and_sql() {
    let stack = Stack::start().await;
    let url = format!(
        "{}/?token={}&q=pass+rate+by+component",
        stack.base, stack.token
    );
    let dom = tokio::task::spawn_blocking(move || browse(&url))
        .await
        .unwrap();
    assert!(dom.contains("data-behaviour=\"answer\""), "{dom}");
    for part in [
        "<svg",
        "<summary>Rows</summary>",
        "<summary>Query</summary>",
        "<summary>SQL</summary>",
        "refills",
    ] {
        assert!(dom.contains(part), "{part} is missing:\n{dom}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_word_is_named_in_the_browser_and_stays_text() {
    let stack = Stack::start().await;
    let url = format!(
        "{}/?token={}&q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
        stack.base, stack.token
    );
    let dom = tokio::task::spawn_blocking(move || browse(&url))
        .await
        .unwrap();
    assert!(dom.contains("&lt;img src=x"), "{dom}");
    assert!(!dom.contains("<img"), "{dom}");
}

/// The document after the page's scripts have run.
fn browse(url: &str) -> String {
    let profile = Folder::new();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=10000", "--dump-dom", url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
