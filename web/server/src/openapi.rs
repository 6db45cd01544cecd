//! `GET /api/openapi.json`: our own API, described. The page's types are made from it.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::routes::{
    actors, ask, bootstrap, conversations, events, lineage, live, pipeline, runs, stream, watch,
    write_backs,
};
use crate::shapes;
use crate::table::{Route, VIEWER, get};

pub(crate) fn routes() -> Vec<Route> {
    vec![get("/api/openapi.json", VIEWER, describe)]
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ballpoint",
        description = "Ask, watch and operate the stack. `viewer` reads and asks, `operator` runs, \
                       restarts, plans and approves, `admin` also sees connection URLs."
    ),
    paths(
        bootstrap::bootstrap,
        ask::ask,
        ask::proof,
        ask::replay,
        stream::stream,
        conversations::list,
        conversations::one,
        conversations::forget,
        actors::list,
        actors::restart,
        actors::pause,
        actors::resume,
        actors::status,
        events::events,
        lineage::lineage,
        live::live,
        live::rollups,
        live::explain,
        runs::list,
        runs::one,
        runs::cancel,
        pipeline::sync,
        pipeline::run,
        watch::incidents,
        watch::schedules,
        write_backs::list,
        write_backs::audit,
        write_backs::plan,
        write_backs::propose,
        write_backs::one,
        write_backs::rows,
        write_backs::approve,
        write_backs::reject,
        write_backs::apply,
        write_backs::undo,
    ),
    components(schemas(shapes::Answer, shapes::Actor, shapes::Problem)),
    modifiers(&Token),
    security(("token" = []))
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The data dir's token, or one of [auth.tokens]"))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

async fn describe() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_of_ours_is_described_and_nothing_else() {
        let api = serde_json::to_value(Api::openapi()).unwrap();
        let described: BTreeSet<String> = api["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let served: BTreeSet<String> = crate::routes::all(true)
            .iter()
            .filter(|route| route.path.starts_with("/api/") && !route.path.ends_with(".json"))
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn the_page_is_made_for_this_description() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../app/openapi.json");
        let served = serde_json::to_value(Api::openapi()).unwrap();
        let kept = std::fs::read_to_string(file).unwrap();
        if serde_json::from_str::<serde_json::Value>(&kept).ok() != Some(served.clone()) {
            let text = serde_json::to_string_pretty(&served).unwrap();
            std::fs::write(file, text + "\n").unwrap();
            panic!(
                "web/app/openapi.json was old and is written anew: \
                 run `npm run types && npm run check` in web/app and commit what changed"
            );
        }
    }
}
