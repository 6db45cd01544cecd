//! What is told of a stream's rows: events now and then, the status, the report of a sync.

use ballpoint_runtime::event::Event;
use ballpoint_runtime::store::{EventBus, RecordedEvent};
use ballpoint_runtime::trace::TraceContext;

use super::Following;
use crate::changes::FollowReport;
use crate::error::LoadError;
use crate::report::TableReport;

impl Following<'_> {
    /// Records, in the transaction that is open, that tables have new rows. Not at every commit: a
    /// build that follows each would not be faster.
    pub(super) async fn tell(&mut self, at_once: bool) -> Result<Vec<RecordedEvent>, LoadError> {
        let mut events = Vec::new();
        for table in &mut self.tables {
            if !(table.is_due() || at_once && table.untold > 0) {
                continue;
            }
            let event = Event::TableLoaded {
                source: self.follower.source().name().to_owned(),
                table: table.spec.table.clone(),
                raw: table.raw.clone(),
                rows: table.told(),
            };
            let trace = TraceContext::current();
            events.push(EventBus::record_in(self.session.connection(), event, trace).await?);
        }
        Ok(events)
    }

    /// Their rows are committed already: outside any transaction.
    pub(super) async fn tell_what_is_left(&mut self) -> Result<(), LoadError> {
        let events_bus = self.follower.loader().store().events().clone();
        for event in self.tell(true).await? {
            events_bus.announce(event);
        }
        Ok(())
    }

    /// After a commit: counts its rows, and announces what it told.
    pub(super) fn committed(&mut self, events: Vec<RecordedEvent>) {
        let events_bus = self.follower.loader().store().events();
        events
            .into_iter()
            .for_each(|event| events_bus.announce(event));
        for table in &mut self.tables {
            table.stage_in_use = false;
            let rows = std::mem::take(&mut table.written);
            let rejected = std::mem::take(&mut table.rejected);
            if rows + rejected > 0 {
                let counts = self.changed.entry(table.spec.table.clone()).or_default();
                *counts = (counts.0 + rows, counts.1 + rejected);
            }
        }
        let changes = self.changed.values().map(|counts| counts.0).sum();
        self.follower.noting(|status| {
            status.changes = changes;
            status.commits += 1;
        });
    }

    /// Adds what changed to the report.
    pub(in crate::changes) fn account(&mut self, report: &mut FollowReport) {
        for table in &self.tables {
            let (rows, rejected) = self.changed.remove(&table.spec.table).unwrap_or_default();
            let mut known = report.tables.iter_mut();
            match known.find(|known| known.table == table.spec.table) {
                Some(known) => known.add_changes(rows, rejected),
                None => {
                    let name = self.follower.source().name();
                    let (of, raw) = (table.spec.table.clone(), table.raw.clone());
                    let mut added = TableReport::begun(name, of, raw);
                    added.add_changes(rows, rejected);
                    report.tables.push(added);
                }
            }
        }
    }
}
