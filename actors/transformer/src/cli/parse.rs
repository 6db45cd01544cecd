//! `parse`: the project as `manifest.json`. When nothing that a manifest is made of has changed since
//! it was made, only what it says of its making is new: see [`Inputs`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ballpoint_runtime::files::FileStamps;
use serde_json::{Value as Json, json};

use super::arguments::Common;
use super::log::Log;
use super::session::{
    Asked, Session, Stop, asked_target_dir, load_options, session, strict_warnings,
};
use super::{CliEnv, EXIT_DONE};
use crate::artifacts;
use crate::project::{LoadOptions, Project, TargetChoice, md5_hex, yaml};

/// What is kept beside the manifest.
const KEPT: &str = "partial_parse.json";

/// How a manifest begins: with what it says of its making.
const HEAD: &str = "{\"metadata\":";

/// A file that changed so short a time before it was looked at may change again unseen: its time of
/// change is no finer than the server's tick.
const SETTLED: Duration = Duration::from_millis(50);

pub(super) fn parse(env: &CliEnv, log: &Log, common: &Common) -> Result<u8, Stop> {
    let asked = Asked {
        command: "parse",
        ..Asked::default()
    };
    let options = load_options(env, log, common, asked)?;
    let inputs = Inputs::of(env, common, &options);
    if let Some(inputs) = &inputs
        && inputs.renew(env, log, common, &options)?
    {
        return Ok(EXIT_DONE);
    }
    let session = session(env, log, common, asked)?;
    let manifest = artifacts::manifest(&session.project, &session.now());
    artifacts::write(&session.target_dir, "manifest.json", &manifest)?;
    if let Some(inputs) = inputs {
        inputs.keep(&session, &manifest)?;
    }
    Ok(EXIT_DONE)
}

/// What a manifest is made of: the files of the project and of its profile (by time of change and
/// size), variables, flags, the environment, the versions of this program. What templates ask of the
/// clock is not among it, as in dbt.
struct Inputs {
    digest: String,
    target_dir: PathBuf,
}

impl Inputs {
    /// `None` where they cannot be told for certain: a file has just changed, a local package may
    /// stand anywhere, the project computes where its artifacts are.
    fn of(env: &CliEnv, common: &Common, options: &LoadOptions) -> Option<Self> {
        let root = &options.project_dir;
        let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
        let packages = read("packages.yml") + &read("dependencies.yml");
        if packages.contains("local") {
            return None;
        }
        let target_dir = match asked_target_dir(env, common, root) {
            Some(asked) => asked,
            None => {
                let file =
                    yaml::parse(&read("dbt_project.yml"), Path::new("dbt_project.yml")).ok()?;
                let named = file.get("target-path").and_then(Json::as_str);
                let named = named.unwrap_or("target");
                (!named.contains("{{")).then(|| root.join(named))?
            }
        };
        let now = SystemTime::from(env.clock.real_now());
        let files = [Project::stamps(root), FileStamps::take(profiles(options))];
        let newest = files.iter().filter_map(FileStamps::newest).max();
        if newest.is_some_and(|newest| newest + SETTLED > now) {
            return None;
        }
        let environment: BTreeMap<_, _> = options.env.iter().collect();
        let all = (
            (
                env!("CARGO_PKG_VERSION"),
                artifacts::DBT_VERSION,
                root,
                files,
            ),
            (&options.target, &options.vars, &options.flags, environment),
        );
        Some(Self {
            digest: md5_hex(&format!("{all:?}")),
            target_dir,
        })
    }

    /// Writes the manifest again, if it was made of the same; whether it did.
    fn renew(
        &self,
        env: &CliEnv,
        log: &Log,
        common: &Common,
        options: &LoadOptions,
    ) -> Result<bool, Stop> {
        let Some((kept, manifest)) = self.kept() else {
            return Ok(false);
        };
        let warnings = kept["warnings"].as_array().map_or(&[][..], Vec::as_slice);
        if strict_warnings(common) && !warnings.is_empty() {
            return Ok(false);
        }
        let end = kept["head"]
            .as_u64()
            .and_then(|end| usize::try_from(end).ok());
        let (Some(head), Some(rest)) = (
            end.and_then(|end| manifest.get(HEAD.len()..end)),
            end.and_then(|end| manifest.get(end..)),
        ) else {
            return Ok(false);
        };
        let Ok(mut metadata) = serde_json::from_str::<Json>(head) else {
            return Ok(false);
        };
        let now = env.clock.real_now().to_string();
        let started = &options.run_started_at;
        artifacts::renew_metadata(&mut metadata, &options.invocation_id, started, &now);
        let head = format!("{HEAD}{metadata}");
        let text = format!("{head}{rest}");
        artifacts::write_text(&self.target_dir, "manifest.json", &text)?;
        self.note(head.len(), &kept["warnings"])?;
        for warning in warnings.iter().filter_map(Json::as_str) {
            log.warn(warning);
        }
        Ok(true)
    }

    /// What was kept of the same inputs, and the manifest that was made of them, untouched since.
    fn kept(&self) -> Option<(Json, String)> {
        let text = std::fs::read_to_string(self.target_dir.join(KEPT)).ok()?;
        let kept: Json = serde_json::from_str(&text).ok()?;
        if kept["inputs"] != self.digest || kept["manifest"] != self.manifest_stamp() {
            return None;
        }
        let manifest = std::fs::read_to_string(self.target_dir.join("manifest.json")).ok()?;
        Some((kept, manifest))
    }

    /// Keeps what the manifest was made of.
    fn keep(&self, session: &Session, manifest: &Json) -> std::io::Result<()> {
        if session.target_dir != self.target_dir || session.project.is_stale() {
            return Ok(());
        }
        let head = HEAD.len() + manifest["metadata"].to_string().len();
        self.note(head, &json!(session.project.warnings))
    }

    fn note(&self, head: usize, warnings: &Json) -> std::io::Result<()> {
        let kept = json!({
            "inputs": self.digest, "manifest": self.manifest_stamp(), "head": head,
            "warnings": warnings,
        });
        artifacts::write(&self.target_dir, KEPT, &kept)
    }

    fn manifest_stamp(&self) -> String {
        let stamp = FileStamps::take([self.target_dir.join("manifest.json")]);
        md5_hex(&format!("{stamp:?}"))
    }
}

/// Where profiles may stand, whether they do or not.
fn profiles(options: &LoadOptions) -> Vec<PathBuf> {
    let TargetChoice::Profiles { dir, .. } = &options.target else {
        return Vec::new();
    };
    let named = |name: &str| options.env.get(name).map(PathBuf::from);
    let folders = [
        dir.clone(),
        named("DBT_PROFILES_DIR"),
        Some(options.project_dir.clone()),
        named("HOME").map(|home| home.join(".dbt")),
    ];
    let folders = folders.into_iter().flatten();
    folders.map(|folder| folder.join("profiles.yml")).collect()
}
