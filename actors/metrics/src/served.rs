//! Loads as bodies: from the result cache where what they were made of stands, computed and kept
//! where not. A hit is served as the bytes that were kept: nothing is planned, run or written again.

use std::sync::{Arc, Mutex, PoisonError};

use ballpoint_runtime::segment::TableName;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::api::ApiReply;
use crate::load_proof::Part;
use crate::model::SecurityContext;
use crate::plan::normalize::ANOTHER_TIME;
use crate::plan::{self, Plan};
use crate::relations::Reads;
use crate::results::{Fresh, Kept};
use crate::service::Service;

/// Claims that RFC 7519 registers for a token's own life.
const OF_ONE_TOKEN: [&str; 4] = ["exp", "iat", "jti", "nbf"];

/// A reply as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Served {
    pub status: u16,
    pub body: Bytes,
    /// Of the data alone; all zero for a reply without any.
    pub digest: [u8; 32],
    /// Whether it came out of the cache.
    pub hit: bool,
    /// The id of the proof of its rows.
    pub proof: Option<Bytes>,
}

impl Served {
    fn kept(kept: &Kept) -> Self {
        Self {
            status: 200,
            body: kept.body.clone(),
            digest: kept.digest,
            hit: true,
            proof: Some(kept.made.id.clone()),
        }
    }

    fn made(reply: &ApiReply) -> Self {
        Self {
            status: reply.status,
            body: serde_json::to_vec(&reply.body).unwrap_or_default().into(),
            digest: digest(&reply.body),
            hit: false,
            proof: None,
        }
    }

    /// Whether it holds rows, rather than an error or a request to come again.
    pub fn has_data(&self) -> bool {
        self.digest != [0; 32]
    }
}

impl From<ApiReply> for Served {
    fn from(reply: ApiReply) -> Self {
        Self::made(&reply)
    }
}

/// What the statements of one request read; filled while it is answered.
#[derive(Clone, Debug, Default)]
pub struct Collected(Option<Arc<Mutex<Sources>>>);

#[derive(Debug, Default)]
struct Sources {
    statements: Vec<String>,
    relations: Vec<TableName>,
    parts: Vec<Part>,
    /// Policies asked for other rows on another day.
    is_dated: bool,
}

impl Collected {
    pub(crate) fn start() -> Self {
        Self(Some(Arc::default()))
    }

    /// Takes note of a plan that is about to run.
    pub(crate) fn note(&self, plan: &Plan) {
        let Some(sources) = &self.0 else { return };
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.parts.push(Part::of(plan));
        sources.is_dated |= plan.is_dated;
        match &plan.rollup {
            // A rollup is as old as what it was built from.
            Some(rollup) => sources.relations.extend(rollup.reads.iter().cloned()),
            None => sources.statements.push(plan.statement.sql()),
        }
    }

    /// Forgets the statement that was noted last: it gave no rows.
    pub(crate) fn retract(&self) {
        let Some(sources) = &self.0 else { return };
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.parts.pop();
    }

    /// The statements that gave rows.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let Some(sources) = &self.0 else {
            return Vec::new();
        };
        let sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.parts.clone()
    }

    fn is_dated(&self) -> bool {
        let sources = self.0.as_ref();
        sources.is_some_and(|it| it.lock().unwrap_or_else(PoisonError::into_inner).is_dated)
    }

    /// The statements that read the source, and what stands behind the rollups that were read.
    fn sources(&self) -> (Vec<String>, Vec<TableName>) {
        let Some(sources) = &self.0 else {
            return Default::default();
        };
        let sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        (sources.statements.clone(), sources.relations.clone())
    }
}

impl Service {
    /// The reply to a request that was sent in the very same words before, if it still stands.
    pub fn served_before(&self, raw: &str, context: &SecurityContext) -> Option<Served> {
        let kept = self.results.peek(&self.key("raw", raw, context))?;
        Some(Served::kept(&kept))
    }

    /// `/v1/load` as bytes. `raw` is the request as it was sent, if there was one.
    pub async fn load_served(
        &self,
        raw: Option<&str>,
        request: &Value,
        context: &SecurityContext,
    ) -> Served {
        let Some((text, dated)) = self.identity(request) else {
            return self.load(request, context).await.into();
        };
        let key = self.key("query", &text, context);
        if !is_fresh_wanted(request)
            && let Some(kept) = self.results.get(&key)
        {
            return Served::kept(&kept);
        }
        let mut keys = vec![key];
        // What says "last week" means another week some day, and what wants no kept result wants none
        // the next time either.
        keys.extend(
            raw.filter(|_| !dated && !is_fresh_wanted(request))
                .map(|raw| self.key("raw", raw, context)),
        );
        self.load_and_keep(keys, request, context).await
    }

    async fn load_and_keep(
        &self,
        keys: Vec<String>,
        request: &Value,
        context: &SecurityContext,
    ) -> Served {
        let versions = &self.results.versions;
        let (epoch, before) = (versions.epoch(), versions.at_present());
        let collecting = Self {
            collected: Collected::start(),
            ..self.clone()
        };
        let mut served = Served::made(&collecting.load(request, context).await);
        if served.status == 200 && served.has_data() {
            let found = self.reads_of(&collecting.collected).await;
            // What is not known may change unseen.
            let reads = found.unwrap_or_default();
            let key = keys.first().map_or("", String::as_str);
            let parts = collecting.collected.parts();
            let fresh = Fresh {
                made: self.made(key, request, context, parts, &served),
                body: served.body.clone(),
                digest: served.digest,
                behind: self.look_behind(&reads.relations),
                reads,
                epoch,
                before,
            };
            let kept = self.results.keep(keys, fresh);
            served.proof = Some(kept.made.id.clone());
        }
        served
    }

    /// What was read; `None` when that could not be found out.
    pub(crate) async fn reads_of(&self, collected: &Collected) -> Option<Reads> {
        let (statements, relations) = collected.sources();
        let mut reads = Reads {
            relations,
            steady: !collected.is_dated(),
        };
        if !statements.is_empty() {
            let pool = self.runner.pool();
            let found = self.results.reads(pool, statements).await.ok()?;
            reads.steady &= found.steady;
            reads.relations.extend(found.relations.iter().cloned());
        }
        reads.relations.sort_unstable();
        reads.relations.dedup();
        Some(reads)
    }

    /// What makes two requests the same one, and whether that depends on the day; `None` for a
    /// request that is wrong.
    fn identity(&self, request: &Value) -> Option<(String, bool)> {
        let read = crate::api::Request::read(request).ok()?;
        let now = self.clock.business_now();
        let (kind, queries) = plan::normalize(&read.query, now).ok()?;
        let later = now.checked_add(ANOTHER_TIME).ok()?;
        let (_, then) = plan::normalize(&read.query, later).ok()?;
        let mut text = format!("{}\0{}\0{}", kind.name(), read.multi, read.query);
        for query in &queries {
            text.push('\0');
            text.push_str(&query.json.to_string());
        }
        let dated = queries
            .iter()
            .zip(&then)
            .any(|(now, then)| now.json != then.json);
        Some((text, dated))
    }

    fn key(&self, kind: &str, text: &str, context: &SecurityContext) -> String {
        let (model, groups) = (&self.snapshot.model.hash, &context.groups);
        let mut key = String::with_capacity(model.len() + text.len() + 64);
        for part in [kind, model] {
            key.push_str(part);
            key.push('\0');
        }
        if !groups.is_empty() || !context.claims.is_null() {
            key.push_str(&serde_json::json!([groups, who(&context.claims)]).to_string());
        }
        key.push('\0');
        key.push_str(text);
        key
    }
}

/// What a caller's next token says as well: not when it was made, nor for how long.
fn who(claims: &Value) -> Value {
    let mut claims = claims.clone();
    if let Some(claims) = claims.as_object_mut() {
        OF_ONE_TOKEN.iter().for_each(|name| {
            claims.remove(*name);
        });
    }
    claims
}

/// Whether the request wants no kept result, as Cube's clients say it.
fn is_fresh_wanted(request: &Value) -> bool {
    let says = |at: &Value| at["cache"] == "no-cache" || at["renewQuery"] == true;
    says(request) || says(&request["query"])
}

/// SHA-256 of the rows of a reply; zero where it has none.
fn digest(body: &Value) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut any = false;
    let several = body["results"].as_array().into_iter().flatten();
    for result in several.chain([body]) {
        if let Some(data) = result.get("data") {
            any = true;
            hasher.update(data.to_string());
            hasher.update(result["total"].to_string());
        }
    }
    if any {
        hasher.finalize().into()
    } else {
        [0; 32]
    }
}
