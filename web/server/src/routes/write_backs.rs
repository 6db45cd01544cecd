//! Plans that write data back into a source, and what people decide about them.

use crate::app::App;
use crate::table::Route;

pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}

/// Plans that wait for a decision.
pub(super) async fn waiting(_app: &App) -> u64 {
    0
}
