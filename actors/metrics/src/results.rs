//! The result cache: bodies as they were sent, for as long as what they were made of stands.
//!
//! A body is kept under the whole request (its dates resolved), the caller's security context and
//! the model's hash, together with the versions of the tables that it was read from. It is served
//! while these are the present ones: a load or a build invalidates exactly what read its tables, and
//! time invalidates nothing. What depends on a clock or on tables that no event tells of is never
//! kept. The cache is bounded in bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ballpoint_runtime::segment::TableName;
use bytes::Bytes;
use moka::sync::Cache;
use sqlx::PgPool;

use crate::given::{self, Behind, Given};
use crate::load_proof::Made;
use crate::proof::TableVersion;
use crate::relations::{self, Reads};
use crate::versions::{Known, Versions};

/// What all bodies together may take.
const BYTES_MAX: u64 = 128 * 1024 * 1024;
/// What an entry takes beside its body, about.
const ENTRY_BYTES: usize = 512;
/// Statements whose relations are remembered; more start over.
const STATEMENTS_MAX: usize = 1024;

/// A body that may be served again.
#[derive(Debug)]
pub struct Kept {
    pub body: Bytes,
    /// Of the data alone: two bodies with one digest show the same rows.
    pub digest: [u8; 32],
    /// What it was made of.
    pub(crate) made: Made,
    pub(crate) behind: Behind,
    pub(crate) tables: Vec<TableName>,
    /// `None` for a table of which no event tells.
    versions: Vec<Option<i64>>,
    /// The epoch at which the versions were last seen to be the present ones.
    valid_at: AtomicU64,
}

impl Kept {
    /// The tables that it was read from, each as it was.
    pub(crate) fn table_versions(&self) -> Vec<TableVersion> {
        let tables = self.tables.iter().zip(&self.versions);
        let of = |(table, version): (&TableName, &Option<i64>)| TableVersion::of(table, *version);
        tables.map(of).collect()
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.made.bytes() + self.tables.len() * 64
    }
}

/// A body that was just computed.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) body: Bytes,
    pub(crate) digest: [u8; 32],
    pub(crate) made: Made,
    pub(crate) behind: Behind,
    pub(crate) reads: Reads,
    /// The epoch and the versions when the computing began.
    pub(crate) epoch: u64,
    pub(crate) before: Known,
}

/// What statements read, by their relations, as of an epoch.
type ReadsAt = (u64, HashMap<Vec<String>, Arc<Reads>>);

/// Kept results and what invalidates them.
#[derive(Debug)]
pub struct Results {
    pub versions: Arc<Versions>,
    /// Those that went out last, kept or not.
    pub(crate) given: Given,
    kept: Cache<Arc<str>, Arc<Kept>>,
    /// The relations of statements, as they were at an epoch.
    reads: Mutex<ReadsAt>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How the cache does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ResultsStatus {
    pub entries: u64,
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
}

impl Default for Results {
    fn default() -> Self {
        let weigh = |key: &str, kept: &Kept| {
            u32::try_from(key.len() + kept.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        Self {
            versions: Arc::default(),
            given: Given::default(),
            kept: Cache::builder()
                .max_capacity(BYTES_MAX)
                .weigher(move |key: &Arc<str>, kept: &Arc<Kept>| weigh(key, kept))
                .build(),
            reads: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }
}

impl Results {
    /// The body under `key`, if it is still what the query would give.
    pub fn get(&self, key: &str) -> Option<Arc<Kept>> {
        let found = self.kept.get(key).filter(|kept| self.stands(kept));
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The same without counting a miss: the caller will look under another key.
    pub fn peek(&self, key: &str) -> Option<Arc<Kept>> {
        let found = self.kept.get(key).filter(|kept| self.stands(kept))?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// The result that went out with the id of a proof, whether it still stands or not.
    pub(crate) fn proved(&self, id: &str) -> Option<given::Answered> {
        // What is served again and again may have gone out first long ago.
        let kept = || self.kept.iter().find(|(_, kept)| kept.made.id == id);
        let given = self.given.get(id);
        given.or_else(|| kept().map(|(_, kept)| given::Answered::Load(kept)))
    }

    fn stands(&self, kept: &Kept) -> bool {
        let epoch = self.versions.epoch();
        if kept.valid_at.load(Ordering::Acquire) == epoch {
            return true;
        }
        let stands = self.versions.each(&kept.tables).as_ref() == Some(&kept.versions);
        if stands {
            kept.valid_at.store(epoch, Ordering::Release);
        }
        stands
    }

    /// Takes note of a body that goes out. It is kept under `keys` unless something changed while it
    /// was computed, or may change unseen.
    pub(crate) fn keep(&self, keys: Vec<String>, fresh: Fresh) -> Arc<Kept> {
        let Reads { relations, steady } = fresh.reads;
        let versions: Vec<_> = relations.iter().map(|it| fresh.before.of(it)).collect();
        let stands = steady
            && !relations.is_empty()
            && versions.iter().all(Option::is_some)
            && self.versions.epoch() == fresh.epoch;
        let kept = Arc::new(Kept {
            body: fresh.body,
            digest: fresh.digest,
            made: fresh.made,
            behind: fresh.behind,
            tables: relations,
            versions,
            valid_at: AtomicU64::new(fresh.epoch),
        });
        for key in keys.into_iter().filter(|_| stands) {
            self.kept.insert(key.into(), Arc::clone(&kept));
        }
        let id = String::from_utf8_lossy(&kept.made.id);
        self.given
            .add(&id, given::Answered::Load(Arc::clone(&kept)));
        kept
    }

    /// What statements read, looked up once an epoch.
    ///
    /// # Errors
    /// As every query.
    pub async fn reads(
        &self,
        pool: &PgPool,
        statements: Vec<String>,
    ) -> Result<Arc<Reads>, sqlx::Error> {
        let epoch = self.versions.epoch();
        if let Some(known) = self.remembered(epoch, &statements) {
            return Ok(known);
        }
        let found = Arc::new(relations::reads(pool, &statements).await?);
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.0 == epoch {
            if reads.1.len() >= STATEMENTS_MAX {
                reads.1.clear();
            }
            reads.1.insert(statements, Arc::clone(&found));
        }
        Ok(found)
    }

    fn remembered(&self, epoch: u64, statements: &[String]) -> Option<Arc<Reads>> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.0 != epoch {
            *reads = (epoch, HashMap::new());
        }
        reads.1.get(statements).cloned()
    }

    /// How it does, for people.
    pub fn status(&self) -> ResultsStatus {
        self.kept.run_pending_tasks();
        ResultsStatus {
            entries: self.kept.entry_count(),
            bytes: self.kept.weighted_size(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ballpoint_runtime::event::Event;
    use ballpoint_runtime::store::RecordedEvent;
    use ballpoint_runtime::trace::TraceContext;
    use jiff::Timestamp;

    use super::*;

    fn published(id: i64, table: &str) -> RecordedEvent {
        RecordedEvent {
            id,
            at: Timestamp::UNIX_EPOCH,
            event: Event::BuildPublished {
                run_id: String::new(),
                relations: vec![TableName::new("marts", table)],
                tests_passed: 0,
                absent: Vec::new(),
            },
            trace: TraceContext::default(),
        }
    }

    fn of(table: &str, steady: bool) -> Reads {
        Reads {
            relations: vec![TableName::new("marts", table)],
            steady,
        }
    }

    #[test]
    fn a_body_stands_until_one_of_its_own_tables_is_written() {
        let results = Results::default();
        let versions = &results.versions;
        versions.known();
        versions.note(&published(1, "orders"));
        versions.note(&published(2, "lines"));
        let keep = |key: &str, reads: Reads| {
            let fresh = fresh(&results, reads);
            results.keep(vec![key.to_owned()], fresh);
            results.get(key)
        };
        assert!(keep("a", of("orders", true)).is_some());
        assert!(keep("b", of("lines", true)).is_some());
        assert!(keep("c", of("orders", false)).is_none(), "it reads a clock");
        assert!(
            keep("d", of("elsewhere", true)).is_none(),
            "nobody tells of it"
        );
        versions.note(&published(3, "orders"));
        assert!(results.get("a").is_none());
        assert!(results.get("b").is_some(), "its table was not written");
        assert!(results.get("c").is_none() && results.get("d").is_none());
    }

    fn fresh(results: &Results, reads: Reads) -> Fresh {
        Fresh {
            body: Bytes::from_static(b"{}"),
            digest: [0; 32],
            made: Made::default(),
            behind: Behind::default(),
            reads,
            epoch: results.versions.epoch(),
            before: results.versions.at_present(),
        }
    }

    #[test]
    fn what_was_computed_across_a_change_is_not_kept() {
        let results = Results::default();
        results.versions.known();
        results.versions.note(&published(1, "orders"));
        let fresh = fresh(&results, of("orders", true));
        results.versions.note(&published(2, "orders"));
        let given = results.keep(vec!["a".to_owned()], fresh);
        assert!(results.get("a").is_none());
        assert_eq!(given.table_versions()[0].version, Some(1), "as it was");
    }

    #[test]
    fn what_is_not_kept_can_be_proved_and_what_is_kept_can_be_for_as_long() {
        let results = Results::default();
        results.versions.known();
        let named = |id: &'static str| {
            let mut fresh = fresh(&results, of("elsewhere", true));
            fresh.made.id = Bytes::from_static(id.as_bytes());
            fresh
        };
        results.keep(vec!["a".to_owned()], named("one"));
        assert!(results.proved("one").is_some() && results.get("a").is_none());
        results.versions.note(&published(1, "elsewhere"));
        results.keep(vec!["b".to_owned()], named("two"));
        for at in 0..100 {
            let mut other = fresh(&results, of("elsewhere", true));
            other.body = Bytes::from(vec![b'x'; 1024 * 1024]);
            other.made.id = at.to_string().into();
            results.keep(Vec::new(), other);
        }
        results.given.settle();
        assert!(results.proved("one").is_none(), "the oldest gives way");
        assert!(results.proved("two").is_some(), "it may still be served");
    }

    #[test]
    fn the_cache_is_bounded_in_bytes() {
        let results = Results::default();
        results.versions.known();
        results.versions.note(&published(1, "orders"));
        let body = Bytes::from(vec![b'x'; 4 * 1024 * 1024]);
        for at in 0..100 {
            let mut large = fresh(&results, of("orders", true));
            large.body = body.clone();
            results.keep(vec![at.to_string()], large);
        }
        assert!(
            results.status().bytes <= BYTES_MAX,
            "{:?}",
            results.status()
        );
    }
}
