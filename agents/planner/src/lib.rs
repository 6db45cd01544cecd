//! The deterministic planner: a question, the dialogue so far and the registry's catalog become a
//! plan - a query, a question back with choices, or a refusal with its reason.
//!
//! Pure: no clock, no database, no model. What it does not understand it says; an unknown word is
//! never dropped, since a question answered without one of its words is a wrong answer.

pub mod frame;
pub mod from_query;
pub mod plan;
pub mod understood;

mod compose;
mod decide;
mod guard;
mod lexicon;
mod normalise;
mod openers;
mod phrase;
mod reader;
mod registry;
mod resolve;
mod settle;
mod slots;
mod suggest;
mod time;
mod words;

pub use plan::{Context, Coverage, DialogueState, Plan};

use std::sync::Arc;

use ballpoint_metrics::catalog::Catalog;

use crate::lexicon::Lexicon;

/// Plans questions against one catalog. Building one compiles the lexicon; planning only reads.
pub struct Planner {
    catalog: Arc<Catalog>,
    lexicon: Lexicon,
}

impl Planner {
    /// A planner for a catalog; to be built anew when the catalog or its values change.
    pub fn new(catalog: impl Into<Arc<Catalog>>) -> Self {
        let catalog = catalog.into();
        let lexicon = Lexicon::new(&catalog);
        Self { catalog, lexicon }
    }

    /// The catalog that questions are read against.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// What to do with a question.
    pub fn plan(&self, question: &str, state: &DialogueState, context: &Context) -> Plan {
        decide::decide(self, question, state, context)
    }
}
