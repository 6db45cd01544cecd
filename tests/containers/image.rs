//! The `Dockerfile`, as far as this repository uses it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the image is made of.
pub(super) struct Image {
    /// The images it is made from, in order.
    pub(super) stages: Vec<String>,
    /// From the repository into the image.
    pub(super) copied: Vec<(String, String)>,
    pub(super) user: String,
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
    pub(super) health: Vec<String>,
}

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Image {
    pub(super) fn read() -> Self {
        let text = include_str!("../../Dockerfile").replace("\\\n", " ");
        let of = |word: &'static str| {
            text.lines()
                .filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
        };
        let list = |text: &str| -> Vec<String> {
            serde_json::from_str(text.trim().trim_start_matches("CMD ")).unwrap()
        };
        let last_stage = text.rfind("FROM ").unwrap();
        let copied = text[last_stage..].lines().filter_map(|line| {
            let (from, to) = line.strip_prefix("COPY ")?.split_once(' ')?;
            (!from.starts_with("--")).then(|| (from.to_owned(), to.to_owned()))
        });
        let health = of("HEALTHCHECK").next().unwrap();
        Self {
            stages: of("FROM")
                .map(|from| from.split_whitespace().next().unwrap().to_owned())
                .collect(),
            copied: copied.collect(),
            user: of("USER").next().unwrap().to_owned(),
            entrypoint: list(of("ENTRYPOINT").next().unwrap()),
            command: list(of("CMD").next().unwrap()),
            health: list(&health[health.find("CMD ").unwrap()..]),
        }
    }

    /// The file on this machine that stands at `path` in the image.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        if path == "/usr/local/bin/ballpoint" {
            return env!("CARGO_BIN_EXE_ballpoint").into();
        }
        let copied = self.copied.iter().find(|(_, to)| to == path);
        match copied {
            Some((from, _)) => repository().join(from),
            // A program of one of the image's packages.
            None => path.into(),
        }
    }

    pub(super) fn program(&self, path: &str) -> Command {
        Command::new(self.file(path))
    }
}
