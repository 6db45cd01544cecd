//! `parse` of what was parsed before: without a change no template is rendered, and every change is
//! seen.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ballpoint_transformer::cli;

use crate::support::Workbench;

/// A file as one that was saved long ago, each at another moment.
fn settle(path: &Path, moment: &mut u64) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            settle(&entry.path(), moment);
        }
        return;
    }
    *moment += 1;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + *moment);
    File::options()
        .append(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

/// A project that says when one of its models is rendered.
struct Talking {
    bench: Workbench,
    moment: u64,
    tone: Option<&'static str>,
}

impl Talking {
    async fn new() -> Self {
        let bench = Workbench::shop().await;
        bench.write("macros/tone.sql", "{% macro tone() %}a{% endmacro %}");
        bench.write(
            "models/talk.sql",
            "{{ log('rendered', info=True) }}select '{{ tone() }}{{ var('tone', '') }}{{ env_var('TONE', '') }}' as tone",
        );
        let mut moment = 0;
        settle(bench.folder.path(), &mut moment);
        Self {
            bench,
            moment,
            tone: None,
        }
    }

    fn write(&mut self, file: &str, text: &str) {
        self.bench.write(file, text);
        settle(&self.bench.folder.path().join(file), &mut self.moment);
    }

    /// Whether a parse renders the model.
    async fn renders(&self, flags: &str) -> bool {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = lines.clone();
        let mut env = self.bench.env();
        env.out = Arc::new(move |line| heard.lock().unwrap().push(line.to_owned()));
        env.env
            .extend(self.tone.map(|tone| ("TONE".to_owned(), tone.to_owned())));
        let args: Vec<String> = format!("parse {flags}")
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let code = cli::run(&args, &env).await;
        let output = lines.lock().unwrap().join("\n");
        assert_eq!(code, 0, "{output}");
        output.contains("rendered")
    }

    /// The next parse renders, the one after it does not.
    async fn sees_a_change(&self, flags: &str) {
        assert!(self.renders(flags).await);
        assert!(!self.renders(flags).await);
    }
}

#[tokio::test]
async fn a_parse_without_a_change_renders_nothing_and_any_change_is_seen() {
    let mut talking = Talking::new().await;
    talking.sees_a_change("").await;
    let before = talking.bench.artifact("manifest.json");
    assert!(!talking.renders("").await);
    let mut after = talking.bench.artifact("manifest.json");
    assert_ne!(
        before["metadata"]["invocation_id"],
        after["metadata"]["invocation_id"]
    );
    after["metadata"] = before["metadata"].clone();
    assert_eq!(before, after);

    // As long as it was, and another.
    talking.write("macros/tone.sql", "{% macro tone() %}b{% endmacro %}");
    talking.sees_a_change("").await;
    talking.write("models/more.sql", "select 1 as one");
    talking.sees_a_change("").await;
    talking.write(
        "models/more.yml",
        "models: [{name: more, description: Said later}]",
    );
    talking.sees_a_change("").await;
    let more = &talking.bench.artifact("manifest.json")["nodes"]["model.shop.more"];
    assert_eq!(more["description"], "Said later");
    std::fs::remove_file(talking.bench.folder.path().join("models/more.yml")).unwrap();
    std::fs::remove_file(talking.bench.folder.path().join("models/more.sql")).unwrap();
    talking.sees_a_change("").await;
    assert!(talking.bench.artifact("manifest.json")["nodes"]["model.shop.more"].is_null());
    // Touched: what it holds is not compared.
    settle(
        &talking.bench.folder.path().join("models/talk.sql"),
        &mut talking.moment,
    );
    talking.sees_a_change("").await;
    talking.sees_a_change("--vars {tone:c}").await;
    talking.tone = Some("loud");
    talking.sees_a_change("").await;
    // What another command wrote is not what was kept.
    talking.bench.dbt("ls").await;
    talking.sees_a_change("").await;
    // Just saved: the next save may look the same.
    talking.bench.write("models/late.sql", "select 1 as one");
    assert!(talking.renders("").await);
}
