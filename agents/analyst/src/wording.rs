//! The wording kept in `prompts/`: sections of text with `{variables}`.

pub(crate) use ballpoint_runtime::wording::say;

pub(crate) const REFUSALS: &str = include_str!("../../../prompts/analyst/refusals.md");
pub(crate) const CLARIFICATIONS: &str = include_str!("../../../prompts/analyst/clarifications.md");
pub(crate) const NOTICES: &str = include_str!("../../../prompts/chat/notices.md");
pub(crate) const NOTES: &str = include_str!("../../../prompts/analyst/notes.md");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_wording() {
        let reasons = [
            "no_metric",
            "no_member",
            "no_forecast",
            "no_data",
            "not_applicable",
            "no_time_dimension",
            "unsafe",
            "write_action",
            "out_of_scope",
            "unsupported_language",
            "unsupported",
            "offer",
        ];
        for reason in reasons {
            assert!(!say(REFUSALS, reason, &[]).is_empty(), "{reason}");
        }
        assert_eq!(
            say(CLARIFICATIONS, "which_breakdown", &[("measure", "OEE")]),
            "OEE by what?"
        );
    }
}
