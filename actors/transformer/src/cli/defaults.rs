//! Flags that a command line leaves unsaid: dbt takes them from the environment (`DBT_TARGET=prod`),
//! and after that from `flags:` of the project file.

use std::path::PathBuf;

use clap::{ArgAction, CommandFactory};
use serde_json::{Map, Value as Json};

use super::CliEnv;
use super::arguments::Arguments;
use crate::project::yaml;

/// The flags that dbt reads elsewhere, by their long names; the variable of one that takes several
/// is in the plural.
const FLAGS: [&str; 23] = [
    "profile",
    "project-dir",
    "target",
    "target-path",
    "full-refresh",
    "fail-fast",
    "warn-error",
    "warn-error-options",
    "quiet",
    "debug",
    "log-format",
    "log-level",
    "no-print",
    "defer",
    "favor-state",
    "state",
    "defer-state",
    "indirect-selection",
    "store-failures",
    "resource-type",
    "exclude-resource-type",
    "empty",
    "threads",
];

/// Of these, what only a command line or the environment says.
const NOT_OF_A_PROJECT: [&str; 4] = ["profile", "project-dir", "target", "threads"];

/// The command line with what it leaves unsaid behind it.
pub(super) fn completed(mut args: Vec<String>, env: &CliEnv) -> Vec<String> {
    let project = project_flags(&args, env);
    let root = Arguments::command();
    let words = args
        .iter()
        .map_while(|word| (!word.starts_with('-')).then_some(word));
    let mut command = &root;
    for word in words {
        match command.find_subcommand(word) {
            Some(found) => command = found,
            None => break,
        }
    }
    let mut unsaid = Vec::new();
    for flag in command.get_arguments() {
        let Some(long) = flag.get_long().filter(|long| FLAGS.contains(long)) else {
            continue;
        };
        let names = flag.get_visible_aliases().unwrap_or_default();
        let mut names = names.iter().copied().chain([long]);
        if names.any(|name| is_given(&args, name)) || has_short(&args, flag.get_short()) {
            continue;
        }
        let takes_value = flag.get_action().takes_values();
        let is_list = matches!(flag.get_action(), ArgAction::Append);
        let of_project = || {
            let known = !NOT_OF_A_PROJECT.contains(&long);
            let key = positive(long).replace('-', "_");
            known.then(|| project.get(&key).cloned()).flatten()
        };
        let Some(value) = of_environment(env, long, is_list).or_else(of_project) else {
            continue;
        };
        match (takes_value, is_list) {
            (false, _) => unsaid.extend(switch(long, &value)),
            (true, true) => {
                let words = text_of(&value);
                unsaid.extend(
                    words
                        .split_whitespace()
                        .map(|word| format!("--{long}={word}")),
                );
            }
            (true, false) => unsaid.push(format!("--{long}={}", text_of(&value))),
        }
    }
    args.extend(unsaid);
    args
}

/// The name of what a flag says no to.
fn positive(long: &str) -> &str {
    long.strip_prefix("no-").unwrap_or(long)
}

/// Whether a command line says a flag, or says no to it.
fn is_given(args: &[String], long: &str) -> bool {
    let name = positive(long);
    args.iter()
        .filter_map(|arg| arg.strip_prefix("--"))
        .map(|arg| arg.split('=').next().unwrap_or(arg))
        .any(|arg| positive(arg) == name)
}

fn has_short(args: &[String], short: Option<char>) -> bool {
    let mut short_flags = args.iter().filter(|arg| !arg.starts_with("--"));
    short.is_some_and(|short| {
        short_flags.any(|arg| {
            arg.strip_prefix('-')
                .is_some_and(|rest| rest.starts_with(short))
        })
    })
}

fn of_environment(env: &CliEnv, long: &str, is_list: bool) -> Option<Json> {
    let name = positive(long).replace('-', "_").to_uppercase();
    let name = format!("DBT_{name}{}", if is_list { "S" } else { "" });
    let value = env.env.get(&name)?;
    (!value.is_empty()).then(|| Json::from(value.as_str()))
}

/// A switch that a value turns on; of `--no-print` one that turns printing off.
fn switch(long: &str, value: &Json) -> Option<String> {
    let is_on = match value {
        Json::Bool(flag) => *flag,
        other => {
            let text = text_of(other).to_lowercase();
            ["1", "t", "true", "y", "yes", "on"].contains(&text.as_str())
        }
    };
    (is_on != long.starts_with("no-")).then(|| format!("--{long}"))
}

fn text_of(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// `flags:` of the project file; none of a file that cannot be read, which the command itself says.
fn project_flags(args: &[String], env: &CliEnv) -> Map<String, Json> {
    let given = args.iter().enumerate().find_map(|(at, arg)| {
        match arg.strip_prefix("--project-dir")?.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None => args.get(at + 1).cloned(),
        }
    });
    let given = given.or_else(|| env.env.get("DBT_PROJECT_DIR").cloned());
    let folder = match (given, &env.default_project_dir) {
        (Some(given), _) => env.working_dir.join(given),
        (None, Some(folder)) => folder.clone(),
        (None, None) => env.working_dir.clone(),
    };
    let file: PathBuf = folder.join("dbt_project.yml");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let parsed = yaml::parse(&text, &file).unwrap_or_default();
    let flags = parsed.get("flags").and_then(Json::as_object);
    flags.cloned().unwrap_or_default()
}
