//! `compare dbt`: real dbt and us on one project, each in a copy of the database, and what differs.
//! The project and its database are only read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use ballpoint_postgres::cluster::{Cluster, ClusterOptions};
use ballpoint_postgres::ident;
use ballpoint_transformer::cli::CliEnv;
use ballpoint_transformer::compare::{CompareOptions, Comparison, Pair};
use ballpoint_transformer::{LoadOptions, Project, Target, TargetChoice};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::cli::CompareDbtArgs;
use crate::output::{self, UserError};

/// What is run where nothing else is asked for: from nothing, and once more on what that left.
const COMMANDS: [&str; 2] = ["build", "build"];

/// The server of the two databases, and which of its databases they start as.
struct Ground {
    target: Target,
    template: Option<String>,
    /// A server of our own, thrown away at the end.
    cluster: Option<(Cluster, PathBuf)>,
}

pub(super) async fn run(context: &Context, args: CompareDbtArgs) -> anyhow::Result<ExitCode> {
    let environment: HashMap<String, String> =
        context.environment.clone().into_map().into_iter().collect();
    if !args.project.join("dbt_project.yml").is_file() {
        let message = format!("{}: there is no dbt_project.yml", args.project.display());
        return Err(UserError(message).into());
    }
    let dbt = dbt_program(args.dbt.as_ref(), &environment)?;
    let env = CliEnv {
        env: environment,
        working_dir: std::env::current_dir()?,
        default_target: None,
        default_project_dir: None,
        clock: context.clock(),
        cancel: CancellationToken::new(),
        out: Arc::new(|_| {}),
    };
    let ground = ground(&args, &env).await?;
    let names =
        ["dbt", "ballpoint"].map(|side| format!("ballpoint_compare_{side}_{}", std::process::id()));
    for name in &names {
        create(&ground, name).await?;
    }
    let found = compare(&args, &ground, &names, dbt, env).await;
    if !args.keep {
        for name in &names {
            drop_database(&ground.target, name).await?;
        }
    }
    if let Some((cluster, folder)) = ground.cluster {
        cluster.stop().await?;
        std::fs::remove_dir_all(folder)?;
    }
    report(context, &found?)
}

/// The program of real dbt: the one that is named, that of an active virtual environment, or the
/// first on the path.
fn dbt_program(
    named: Option<&PathBuf>,
    environment: &HashMap<String, String>,
) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.clone());
    }
    let folders = environment
        .get("PATH")
        .map(String::as_str)
        .unwrap_or_default();
    let mut programs = std::env::split_paths(folders).map(|folder| folder.join("dbt"));
    programs.find(|program| program.is_file()).ok_or_else(|| {
        let message = "there is no dbt on the path: name one with --dbt, such as \
                       .venv/bin/dbt (pip install dbt-core dbt-postgres)";
        UserError(message.to_owned()).into()
    })
}

async fn ground(args: &CompareDbtArgs, env: &CliEnv) -> anyhow::Result<Ground> {
    if args.scratch {
        let folder = std::env::temp_dir().join(format!("ballpoint-scratch-{}", std::process::id()));
        let options = ClusterOptions::new(folder.join("server"), ["compare"]);
        let cluster = Cluster::open(&options).await?;
        let target = Target::from_url(&cluster.url("compare"), "analytics")?;
        return Ok(Ground {
            target,
            template: None,
            cluster: Some((cluster, folder)),
        });
    }
    let target = match &args.url {
        Some(url) => Target::from_url(url, "analytics")?,
        None => {
            let mut options = LoadOptions::new(args.project.clone(), Target::default());
            options.target = TargetChoice::Profiles {
                dir: args.profiles_dir.clone(),
                profile: args.profile.clone(),
                target: args.target.clone(),
            };
            options.env = env.env.clone();
            let project = Project::load(&options).map_err(|error| {
                UserError(format!(
                    "{error}; name the server with --url, or take --scratch for an empty one"
                ))
            })?;
            project.target.clone()
        }
    };
    Ok(Ground {
        template: (!args.empty).then(|| target.database.clone()),
        target,
        cluster: None,
    })
}

async fn connect(target: &Target, database: &str) -> anyhow::Result<PgConnection> {
    let options = target.connect_options().database(database);
    PgConnection::connect_with(&options).await.with_context(|| {
        format!(
            "cannot connect to {}:{}/{database}",
            target.host, target.port
        )
    })
}

async fn create(ground: &Ground, name: &str) -> anyhow::Result<()> {
    // A template must have no connection, not even ours.
    let from = if ground.template.as_deref() == Some("postgres") {
        "template1"
    } else {
        "postgres"
    };
    let mut conn = connect(&ground.target, from).await?;
    let template = match &ground.template {
        Some(template) => format!(" template {}", ident::quote(template)),
        None => String::new(),
    };
    let sql = format!("create database {}{template}", ident::quote(name));
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut conn)
        .await
        .with_context(|| {
            let template = ground.template.as_deref().unwrap_or("template1");
            format!(
                "cannot make database {name} as a copy of {template}: close what is connected to it, \
                 or take --empty if the project needs no data of it"
            )
        })?;
    Ok(conn.close().await?)
}

async fn drop_database(target: &Target, name: &str) -> anyhow::Result<()> {
    let mut conn = connect(target, "postgres").await?;
    let sql = format!(
        "drop database if exists {} with (force)",
        ident::quote(name)
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await?;
    Ok(conn.close().await?)
}

async fn compare(
    args: &CompareDbtArgs,
    ground: &Ground,
    names: &[String; 2],
    dbt: PathBuf,
    env: CliEnv,
) -> anyhow::Result<Comparison> {
    let at = |name: &String| Target {
        database: name.clone(),
        threads: args.threads,
        ..ground.target.clone()
    };
    let mut flags = Vec::new();
    if let Some(vars) = &args.vars {
        flags.extend(["--vars".to_owned(), vars.clone()]);
    }
    let mut pair = Pair::new(&CompareOptions {
        project_dir: args.project.clone(),
        theirs: at(&names[0]),
        ours: at(&names[1]),
        dbt,
        program: Some(std::env::current_exe()?),
        flags,
        env,
        ignored: args.ignore.clone(),
    })?;
    pair.install().await?;
    let commands: Vec<&str> = match args.command.as_slice() {
        [] => COMMANDS.to_vec(),
        given => given.iter().map(String::as_str).collect(),
    };
    for command in commands {
        output::note(format!("{command}: dbt, then ballpoint"));
        pair.step(command).await?;
    }
    Ok(pair.finish().await)
}

fn report(context: &Context, found: &Comparison) -> anyhow::Result<ExitCode> {
    if context.place.json {
        output::json(found)?;
    } else {
        for step in &found.steps {
            output::line(format!(
                "{}: {} nodes, {} relations, {} rows; dbt {:.2} s, ballpoint {:.2} s, {:.0} times as fast",
                step.command,
                step.nodes,
                step.relations,
                step.rows,
                step.dbt_seconds,
                step.ballpoint_seconds,
                step.dbt_seconds / step.ballpoint_seconds.max(0.001),
            ));
        }
        for one in &found.differences {
            output::line(format!("{} differs: {}", one.what, one.of));
            output::line(format!(
                "  dbt:       {}",
                one.dbt.replace('\n', "\n             ")
            ));
            output::line(format!(
                "  ballpoint: {}",
                one.ballpoint.replace('\n', "\n             ")
            ));
        }
        output::line(format!("{} differences", found.differences.len()));
    }
    Ok(match found.differences.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
