//! The routes over agents that answer from the shipped data model on a real PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use ballpoint_activation::ActivationHandle;
use ballpoint_analyst::{Analyst, AnalystArgs, AnalystHandle};
use ballpoint_chat::{Chat, ChatArgs, ChatHandle};
use ballpoint_metrics::{MetricRegistry, MetricRegistryArgs, MetricRegistryHandle, registry};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use serde_json::Value;
use tokio::sync::watch;
use tower::Service;

use crate::{App, Backend, Doors, JwtKey, Keys, Pace, Readiness, Role, Suggestions, SystemFacts};

/// One unit an hour and component over 90 days, with a pattern that tells rows apart.
const MARTS: &str = include_str!("../../../../agents/chat/tests/marts.sql");

pub(crate) const OWNER: &str = "the-owners-token";
pub(crate) const VIEWER: &str = "the-viewers-token";
pub(crate) const OPERATOR: &str = "the-operators-token";
pub(crate) const HOST: &str = "127.0.0.1:4000";
/// Another origin that the configuration allows.
pub(crate) const FRONT_END: &str = "http://localhost:3000";

/// A password that must be shown to nobody but an admin.
pub(crate) const MARKER: &str = "hunter2-marker";

/// Longer than anything here takes on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Stack {
    pub(crate) app: App,
    pub(crate) store: Store,
    pub(crate) tree: TreeHandle,
    /// When signed claims are looked at, in seconds since 1970.
    pub(crate) jwt_now: Arc<AtomicI64>,
    router: Router,
    _database: TestDatabase,
}

/// What signs claims.
const SIGNING: &str = "the-secret-that-signs";

/// Claims as a client of the metrics API brings them.
pub(crate) fn signed(claims: &Value) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let head = r#"{"alg":"HS256","typ":"JWT"}"#.to_owned();
    let body = format!("{}.{}", encode(head), encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SIGNING.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, body.as_bytes()));
    format!("{body}.{signature}")
}

fn keys(now: Arc<AtomicI64>) -> Keys {
    let now = move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap();
    Keys::owner(OWNER)
        .with_jwt(JwtKey::new(SIGNING, "groups", now))
        .with_token("wall", Role::Viewer, VIEWER)
        .with_token("shift", Role::Operator, OPERATOR)
}

pub(crate) fn metrics_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../warehouse/metrics")
}

impl Stack {
    pub(crate) async fn start() -> Self {
        Self::with_pace(Pace::new(100_000)).await
    }

    pub(crate) async fn with_pace(pace: Pace) -> Self {
        Self::serving(&metrics_folder(), pace).await
    }

    /// With another data model over the same tables.
    pub(crate) async fn with_model(folder: &Path) -> Self {
        Self::serving(folder, Pace::new(100_000)).await
    }

    async fn serving(model: &Path, pace: Pace) -> Self {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(MARTS).execute(database.pool()).await.unwrap();
        let store = Store::open(database.pool().clone()).await.unwrap();
        let clock = Clock::starting_at("2026-03-31T10:00:00Z".parse().unwrap());
        let scope = Scope::unique();
        let metrics = MetricRegistryHandle::new(&scope);
        let pool = database.pool().clone();
        let kept = Some(store.clone());
        let registry_args = MetricRegistryArgs::new(model, pool, kept, clock.clone());
        let analyst_args = AnalystArgs {
            metrics: metrics.clone(),
            store: store.clone(),
            clock: clock.clone(),
            model: None,
            verified: Default::default(),
        };
        let chat_args = ChatArgs {
            analyst: AnalystHandle::new(&scope),
            store: store.clone(),
        };
        let agents = SupervisorSpec::new("agents", Strategy::OneForOne)
            .child(ActorSpec::new(Analyst::NAME, Analyst, move || {
                analyst_args.clone()
            }))
            .child(ActorSpec::new(Chat::NAME, Chat, move || chat_args.clone()));
        let root = SupervisorSpec::new("root", Strategy::OneForOne)
            .child(ActorSpec::new(registry::NAME, MetricRegistry, move || {
                registry_args.clone()
            }))
            .child(agents);
        let events = Some(store.events().clone());
        let tree = Tree::start(scope.clone(), root, events).await.unwrap();
        let slot = OnceLock::new();
        let _ = slot.set(tree.clone());
        let listen = HOST.parse().unwrap();
        let origins = [FRONT_END.to_owned()];
        let (_, readiness) = watch::channel(Readiness {
            first_pass_done: true,
            degraded: Vec::new(),
        });
        let url = format!("postgres://u:{MARKER}@db.example/shop");
        let jwt_now = Arc::new(AtomicI64::new(1_774_951_200));
        let app = App {
            chat: ChatHandle::new(&scope),
            metrics,
            tree: Arc::new(slot),
            write_backs: None,
            activation: ActivationHandle::new(&scope),
            lineage: None,
            store: store.clone(),
            clock,
            suggestions: Suggestions::default(),
            readiness,
            system: Arc::new(SystemFacts {
                listen: HOST.to_owned(),
                databases: [("shop".to_owned(), url)].into(),
                sources: [("shop".to_owned(), "raw".to_owned())].into(),
                project: "test".to_owned(),
                has_metrics: true,
                backend: Backend {
                    name: "planner",
                    model: None,
                },
            }),
            doors: Arc::new(Doors::new(
                listen,
                keys(Arc::clone(&jwt_now)),
                pace,
                &origins,
            )),
            waiting: Arc::default(),
        };
        let router = app.clone().router();
        let stack = Self {
            app,
            store,
            tree,
            jwt_now,
            router,
            _database: database,
        };
        stack.surveyed().await;
        stack
    }

    /// The same before anything is built, in its first pass.
    pub(crate) async fn before_the_first_build() -> Self {
        let mut stack = Self::start().await;
        sqlx::raw_sql("drop schema marts cascade")
            .execute(stack.store.pool())
            .await
            .unwrap();
        stack.app.readiness = watch::channel(Readiness::default()).1;
        stack.router = stack.app.clone().router();
        stack
    }

    async fn surveyed(&self) {
        let looked = async {
            while !self
                .app
                .metrics
                .describe()
                .await
                .is_ok_and(|it| it.data_version > 0)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looked).await.unwrap();
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().call(request).await.unwrap()
    }

    /// A request to our own host with a token.
    pub(crate) fn request(method: &str, path: &str, token: Option<&str>) -> Request<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Body::empty()).unwrap()
    }

    pub(crate) fn with_body(path: &str, token: &str, body: &Value) -> Request<Body> {
        let mut request = Self::request("POST", path, Some(token));
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        *request.body_mut() = Body::from(body.to_string());
        request
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.send(Self::request("GET", path, Some(OWNER))).await).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.send(Self::with_body(path, OWNER, body)).await).await
    }
}

/// Status and JSON of a reply.
pub(crate) async fn read(reply: Response<Body>) -> (StatusCode, Value) {
    let status = reply.status();
    let body = to_bytes(reply.into_body(), usize::MAX).await.unwrap();
    let json = serde_json::from_slice(&body);
    (
        status,
        json.unwrap_or_else(|_| String::from_utf8_lossy(&body).into()),
    )
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap())
        .unwrap_or_default()
}
