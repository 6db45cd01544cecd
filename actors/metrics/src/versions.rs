//! What the pipeline last wrote where: the version of a table is the id of the event that tells of
//! its latest load or build.
//!
//! A result, a rollup and a proof carry the versions of the tables that they were read from; while
//! those stand, so does the result. Nothing is polled: the events come by the process's own
//! broadcast, and by the rows after one was missed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ballpoint_runtime::segment::TableName;
use ballpoint_runtime::store::{RecordedEvent, Store, StoreError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

/// Pause after the events could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The versions of all tables that the pipeline writes.
#[derive(Debug)]
pub struct Versions {
    /// `None` until the events were read: nothing is known of any table then.
    tables: RwLock<Known>,
    /// Grows with every change, that of a definition included.
    epoch: watch::Sender<u64>,
}

/// The versions of all tables at one moment; `None` until the events were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Option<Arc<HashMap<TableName, i64>>>);

impl Known {
    /// `None` for a table of which no event tells.
    pub(crate) fn of(&self, table: &TableName) -> Option<i64> {
        self.0.as_ref()?.get(table).copied()
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            tables: RwLock::default(),
            epoch: watch::Sender::new(0),
        }
    }
}

impl Versions {
    /// Moves on with everything that may change a result.
    pub fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }

    /// Wakes with every change of the epoch.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// All as they are now, whatever is written later.
    pub(crate) fn at_present(&self) -> Known {
        let known = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// The version of each table; `None` when there is one of which no event tells when it changes.
    pub fn of(&self, tables: &[TableName]) -> Option<Vec<i64>> {
        self.each(tables)?.into_iter().collect()
    }

    /// The same with `None` for each table of which no event tells; `None` for all until the events
    /// were read.
    pub fn each(&self, tables: &[TableName]) -> Option<Vec<Option<i64>>> {
        let known = self.at_present();
        known.0.as_ref()?;
        Some(tables.iter().map(|it| known.of(it)).collect())
    }

    /// Those of `tables` that no load or build has written.
    pub fn unknown<'t>(&self, tables: &'t [TableName]) -> Vec<&'t TableName> {
        let known = self.at_present();
        let is_unknown = |it: &&TableName| known.of(it).is_none();
        tables.iter().filter(is_unknown).collect()
    }

    /// Something other than data changed: a definition, a rollup.
    pub fn moved(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Takes note of an event that wrote tables.
    pub fn note(&self, recorded: &RecordedEvent) {
        let written = recorded.event.written();
        if written.is_empty() {
            return;
        }
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = &mut tables.0 {
            let tables = Arc::make_mut(tables);
            for table in written {
                let version = tables.entry(table.clone()).or_insert(recorded.id);
                *version = recorded.id.max(*version);
            }
        }
        drop(tables);
        self.moved();
    }

    fn replace(&self, tables: Option<HashMap<TableName, i64>>) {
        let known = Known(tables.map(Arc::new));
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.moved();
    }

    /// Takes note of what the rows tell: what the broadcast has told is in them.
    ///
    /// # Errors
    /// As every query.
    pub(crate) async fn read(&self, store: &Store) -> Result<(), StoreError> {
        let written = store.events().writes().await?;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let known = Arc::make_mut(tables.0.get_or_insert_default());
        let mut moved = false;
        for (table, id) in written {
            let version = known.entry(table).or_insert(-1);
            moved |= id > *version;
            *version = id.max(*version);
        }
        drop(tables);
        if moved {
            self.moved();
        }
        Ok(())
    }

    /// As if the rows had been read and held nothing.
    #[cfg(test)]
    pub(crate) fn known(&self) {
        self.replace(Some(HashMap::new()));
    }

    /// Follows the events until the store closes.
    pub(crate) async fn follow(self: Arc<Self>, store: Store) {
        // First the broadcast, then the rows: what happens in between is in both.
        let mut live = store.events().subscribe();
        loop {
            if let Err(error) = self.read(&store).await {
                tracing::warn!(%error, "the versions of the tables were not read");
                tokio::time::sleep(READ_AGAIN_AFTER).await;
                continue;
            }
            loop {
                match live.recv().await {
                    Ok(recorded) => self.note(&recorded),
                    Err(RecvError::Lagged(_)) => break self.replace(None),
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ballpoint_runtime::event::Event;
    use ballpoint_runtime::trace::TraceContext;
    use jiff::Timestamp;

    use super::*;

    fn loaded(id: i64, table: &str) -> RecordedEvent {
        let name = TableName::new("raw", table);
        RecordedEvent {
            id,
            at: Timestamp::UNIX_EPOCH,
            event: Event::TableLoaded {
                source: "shop".to_owned(),
                table: name.clone(),
                raw: name,
                rows: 1,
            },
            trace: TraceContext::default(),
        }
    }

    #[test]
    fn a_version_is_known_only_of_what_an_event_told_of_and_never_goes_back() {
        let versions = Versions::default();
        let orders = [TableName::new("raw", "orders")];
        versions.note(&loaded(1, "orders"));
        assert_eq!(versions.of(&orders), None, "the rows were not read yet");
        versions.replace(Some(HashMap::new()));
        let before = versions.epoch();
        versions.note(&loaded(7, "orders"));
        versions.note(&loaded(5, "orders"));
        assert_eq!(versions.of(&orders), Some(vec![7]));
        assert_eq!(versions.epoch(), before + 2);
        let mixed = [orders[0].clone(), TableName::new("other", "table")];
        assert_eq!(versions.of(&mixed), None);
        assert_eq!(versions.unknown(&mixed), [&mixed[1]]);
    }
}
