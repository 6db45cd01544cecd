//! How days fall into the buckets of granularities that a model declares.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::members::hash_members;
use super::{Definition, Member, Model};

/// What a bucket of a declared granularity (`interval: 6 months`) is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CustomGranularities {
    /// Months and years of the calendar: every day is in the bucket that begins before it and ends
    /// after it.
    #[default]
    Calendar,
    /// As Cube counts on PostgreSQL: in seconds, a month being thirty days, which puts days into
    /// buckets that end before them or begin after them. For reports that have to agree with Cube's.
    Cube,
}

impl Model {
    /// The model with its own granularities counted so: another model, by its hash and those of the
    /// dimensions that declare any.
    #[must_use]
    pub fn counting(mut self, granularities: CustomGranularities) -> Self {
        if granularities == self.custom_granularities {
            return self;
        }
        self.custom_granularities = granularities;
        let digest = Sha256::digest(format!("{} {granularities:?}", self.hash));
        self.hash = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        hash_members(&mut self);
        self
    }

    /// Whether granularities of the model's own are counted in seconds.
    pub(crate) fn counts_as_cube(&self) -> bool {
        self.custom_granularities == CustomGranularities::Cube
    }

    /// Whether a member's value depends on how they are counted.
    pub(super) fn is_counted_as_cube(&self, member: &Member) -> bool {
        let declares = |it: &Definition| matches!(it, Definition::Dimension(it) if !it.granularities.is_empty());
        self.counts_as_cube() && declares(&member.definition)
    }
}
