//! The containers without an engine: each service of `docker-compose.yml` as a local process, with
//! its command, environment and health check, in the order in which they depend on each other.

mod compose;
mod image;
mod process;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Folder, PATIENCE, until};
use compose::Compose;
use image::Image;
use process::Host;

const PASSWORD: &str = "0123456789abcdef0123456789abcdef";

fn variables() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("BALLPOINT_DB_PASSWORD", PASSWORD)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_composed_services_start_in_order_become_healthy_and_answer() {
    let (compose, image) = (Compose::read(&variables()).unwrap(), Image::read());
    let folder = Folder::new();
    let mut host = Host::new(folder.path(), &compose, &image);
    let order = compose.start_order();
    assert_eq!(
        order.last().map(String::as_str),
        Some("ballpoint"),
        "{order:?}"
    );
    for name in &order {
        host.start(name);
        let healthy = format!("{name} is healthy");
        until(&healthy, PATIENCE, || async {
            host.is_healthy(name).then_some(())
        })
        .await;
    }

    let answer = ask(&host, "pass rate by component").await;
    assert_eq!(answer["behaviour"], "answer", "{answer}");
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(3), "{answer}");
    let counted = ask(&host, "how many refills were made?").await;
    let cell = counted["rows"][0]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap();
    let number = cell.as_f64().or_else(|| cell.as_str()?.parse().ok());
    assert_eq!(number, Some(2160.0), "every seeded row arrived: {counted}");

    let roles = "select count(*) from pg_roles where rolname like 'ballpoint_query%'
                 and not rolsuper and not rolcreaterole and not rolcreatedb";
    let url = host.local(
        "ballpoint",
        &compose.services["ballpoint"].environment["BALLPOINT__WAREHOUSE__URL"],
    );
    let warehouse = sqlx::PgPool::connect(&url).await.unwrap();
    let found: i64 = sqlx::query_scalar(roles)
        .fetch_one(&warehouse)
        .await
        .unwrap();
    assert_eq!(found, 1, "questions run as a role that only reads");
    warehouse.close().await;

    assert_eq!(host.stop("ballpoint"), Some(0), "SIGTERM is an orderly end");
    for name in order.iter().filter(|name| *name != "ballpoint") {
        assert_eq!(host.stop(name), Some(0), "{name}");
    }
    // A second start finds what the first one made.
    host.start("refills");
    until("refills is back", PATIENCE, || async {
        host.is_healthy("refills").then_some(())
    })
    .await;
}

async fn ask(host: &Host<'_>, question: &str) -> Value {
    let token =
        std::fs::read_to_string(host.path("ballpoint", "/var/lib/ballpoint/token")).unwrap();
    let reply = reqwest::Client::new()
        .post(format!(
            "http://127.0.0.1:{}/api/ask",
            host.port("ballpoint")
        ))
        .bearer_auth(token.trim())
        .json(&json!({ "question": question }))
        .timeout(PATIENCE)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 200);
    reply.json().await.unwrap()
}

#[test]
fn no_password_has_a_default_and_nothing_is_published_off_loopback() {
    let error = Compose::read(&BTreeMap::new()).unwrap_err();
    assert!(error.contains("BALLPOINT_DB_PASSWORD"), "{error}");
    let compose = Compose::read(&variables()).unwrap();
    for (name, service) in &compose.services {
        for port in &service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        for volume in &service.volumes {
            let (from, _) = volume.split_once(':').unwrap();
            let known = match from.strip_prefix("./") {
                Some(file) => image::repository().join(file).is_file(),
                None => compose.volumes.contains_key(from),
            };
            assert!(known, "{name}: {volume}");
        }
    }
}

#[test]
fn what_the_image_names_is_there_and_it_runs_as_nobody_special() {
    let image = Image::read();
    for (from, _) in &image.copied {
        assert!(image::repository().join(from).exists(), "COPY {from}");
    }
    let toolchain = include_str!("../rust-toolchain.toml");
    let pinned = toolchain.split('"').nth(1).unwrap();
    assert!(
        image.stages[0].starts_with(&format!("rust:{pinned}-")),
        "the image builds with {:?}, the repository with {pinned}",
        image.stages[0]
    );
    assert_eq!(image.stages[1], "debian:bookworm-slim");
    assert_eq!(image.user, "ballpoint");
    let compose = Compose::read(&variables()).unwrap();
    let health = &compose.services["ballpoint"]
        .healthcheck
        .as_ref()
        .unwrap()
        .test;
    assert_eq!(
        health[1..],
        image.health,
        "the image and the service ask alike"
    );
}

#[test]
fn an_image_started_on_its_own_names_what_it_needs() {
    let (image, folder) = (Image::read(), Folder::new());
    let mut command = image.program(&image.entrypoint[0]);
    let data_dir = folder.path().join("data");
    command.args(
        image.entrypoint[1..]
            .iter()
            .map(|argument| match argument.as_str() {
                "/var/lib/ballpoint" => data_dir.display().to_string(),
                other => other.to_owned(),
            }),
    );
    let output = command.args(&image.command).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("tls_terminated"), "{stderr}");
    assert!(!data_dir.exists(), "nothing is made before that is settled");
}
