//! The words of English that carry a question's structure. Nothing here belongs to any trade: what
//! is measured, and by what, comes from the registry.

/// The part a word or phrase plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Says nothing that the query depends on.
    Filler,
    By,
    Each,
    Which,
    HowMany,
    Except,
    Without,
    And,
    Or,
    Versus,
    Compare,
    Share,
    Average,
    Total,
    /// The whole, as something to be measured against: "the overall average".
    Overall,
    Trend,
    Correlation,
    ControlChart,
    Capability,
    Outliers,
    /// What a change between two periods is made of.
    Drivers,
    /// "changed", of which two periods may be the ends.
    Change,
    /// "better or worse".
    Movement,
    Top,
    Bottom,
    Best,
    Worst,
    Highest,
    Lowest,
    Sort,
    Ascending,
    Descending,
    Over,
    Under,
    AtLeast,
    AtMost,
    Equal,
    Than,
    /// A comparative: "slower", "higher".
    MoreComparative,
    LessComparative,
    SlowComparative,
    Line,
    Bar,
    Table,
    Pareto,
    /// A unit of a figure: "in seconds".
    Seconds,
    Minutes,
    Percent,
    Why,
    Low,
    High,
    Define,
    Calculated,
    Explain,
    CoverageAsk,
    CatalogAsk,
    Export,
    Reset,
    Same,
    WhatAbout,
    Also,
    Instead,
    Its,
    Demonstrative,
    Only,
    Drop,
    Everything,
    /// A judgement word which may mean several measures.
    Everyday,
    Moving,
}

impl Role {
    /// Whether it asks for a statistic by its name.
    pub(crate) fn is_analysis(self) -> bool {
        matches!(
            self,
            Self::Correlation
                | Self::ControlChart
                | Self::Capability
                | Self::Outliers
                | Self::Drivers
        )
    }
}

/// Phrases of each role, in any spelling the normaliser levels.
#[rustfmt::skip]
pub(crate) const PHRASES: &[(Role, &[&str])] = &[
    (Role::By, &[
        "by", "per", "split by", "broken down by", "break down by", "breakdown by", "broken out by",
        "grouped by", "group by", "across", "according to", "depending on",
    ]),
    (Role::Each, &["each", "for each", "every", "for every", "both", "respectively"]),
    (Role::Which, &["which", "any", "who"]),
    (Role::HowMany, &["how many", "number of", "count", "how often"]),
    (Role::Except, &[
        "except", "except for", "excluding", "exclude", "other than", "apart from", "not",
        "but not", "all but", "everything but", "not counting", "leave out", "minus",
        "isnt", "arent", "wasnt", "werent", "dont", "doesnt", "didnt", "havent", "hasnt", "hadnt",
        "never", "neither",
    ]),
    (Role::Without, &["without", "without any", "no", "with no", "have no", "missing"]),
    (Role::And, &["and", "plus", "as well as"]),
    (Role::Or, &["or", "nor"]),
    (Role::Versus, &["vs", "against", "compared to", "compared with", "relative to"]),
    (Role::Compare, &["compare", "comparison", "comparing", "difference between"]),
    (Role::Share, &[
        "share", "proportion of", "fraction of", "percent of", "percentage of", "what part",
        "contribution",
    ]),
    (Role::Average, &["average", "on average", "typical", "typically"]),
    (Role::Total, &["total", "in total", "sum", "altogether", "overall total"]),
    (Role::Overall, &["overall", "global", "company", "site", "whole"]),
    (Role::Correlation, &[
        "correlation between", "correlation", "correlate with", "correlate", "correlated",
        "correlated with", "relationship between", "relation between", "depend on", "move together",
    ]),
    (Role::ControlChart, &[
        "control chart", "control limit", "spc", "spc chart", "xmr", "xmr chart", "x mr",
        "x mr chart", "p chart", "nelson rule", "in control", "under control", "out control",
        "statistical control", "in statistical control", "process control",
    ]),
    (Role::Capability, &[
        "cpk", "cp", "cp cpk", "cp and cpk", "process capability", "capability", "capable",
        "process capability index",
    ]),
    (Role::Outliers, &[
        "outlier", "anomaly", "anomalous", "stand out", "stands out", "unusual", "unusually",
        "abnormal",
    ]),
    (Role::Drivers, &[
        "what drove", "drove", "driver", "what drives", "drives", "contribution to the change",
        "contributed to", "contributed most", "contributed most to", "contributed the most to",
        "what explains the change", "decompose", "behind the change", "what is behind", "caused",
        "what caused", "explains the change",
    ]),
    (Role::Trend, &[
        "trend", "over time", "history",
        "moved", "move", "evolve", "evolved", "evolution", "develop", "developed", "progress",
        "timeline",
    ]),
    (Role::Change, &["changed", "changing", "change"]),
    (Role::Movement, &[
        "better or worse", "improving", "getting better", "getting worse", "rising", "falling",
        "going up", "going down", "up or down", "declining", "improved", "improve",
        "getting better or worse", "worsening", "trending", "drop", "dropped", "dropping", "worse",
        "down", "up", "rose", "fell", "increased", "decreased", "increasing", "decreasing", "increase",
        "decrease", "grow", "grew", "growth", "growing", "rise", "fall", "decline", "declined",
    ]),
    (Role::Top, &["top"]),
    (Role::Bottom, &["bottom"]),
    (Role::Best, &["best", "fastest", "cheapest", "quickest"]),
    (Role::Worst, &[
        "worst", "poorest", "slowest", "most expensive", "costliest", "priciest", "dearest",
    ]),
    (Role::Highest, &[
        "highest", "most", "biggest", "largest", "greatest", "longest", "most common", "most frequent",
        "commonest", "most often",
    ]),
    (Role::Lowest, &[
        "lowest", "least", "fewest", "smallest", "shortest", "least common", "least frequent", "rarest",
    ]),
    (Role::Sort, &[
        "sort", "sort by", "sorted", "sorted by", "order by", "ordered by", "rank", "ranked",
        "rank by", "ranked by", "ranking", "first",
    ]),
    (Role::Ascending, &["ascending", "asc", "lowest first", "low to high"]),
    (Role::Descending, &["descending", "desc", "highest first", "high to low"]),
    (Role::Over, &[
        "over", "above", "more than", "greater than", "exceeding", "exceed", "higher than",
        "exceeds", ">", "beyond", "better than",
    ]),
    (Role::Under, &["under", "below", "less than", "fewer than", "lower than", "<"]),
    (Role::AtLeast, &[
        "at least", ">=", "no less than", "not less than", "or more", "or above", "or over",
    ]),
    (Role::AtMost, &[
        "at most", "<=", "no more than", "not more than", "up to", "or less", "or fewer", "or below",
        "or under",
    ]),
    (Role::Equal, &["=", "equal to", "equals"]),
    (Role::Than, &["than"]),
    (Role::MoreComparative, &["higher", "more", "larger", "bigger", "greater", "longer"]),
    (Role::LessComparative, &["lower", "less", "smaller", "fewer", "shorter"]),
    (Role::SlowComparative, &["slower"]),
    (Role::Line, &["line chart", "line graph", "as a line", "linechart"]),
    (Role::Bar, &[
        "bar chart", "bar graph", "barchart", "column chart", "pie chart", "pie", "donut",
    ]),
    (Role::Table, &["as a table", "as table", "in a table", "table"]),
    (Role::Pareto, &["pareto", "pareto chart", "80/20"]),
    (Role::Seconds, &["second", "s", "in seconds"]),
    (Role::Minutes, &["minute", "in minutes", "in hours"]),
    (Role::Percent, &["percent", "in percent", "percentages", "as percent"]),
    (Role::Why, &["why", "how come", "what explains", "root cause", "what causes", "reason for"]),
    (Role::Low, &["low", "so low", "so bad", "bad", "weak", "poor"]),
    (Role::High, &["high", "so high", "so good", "good", "strong"]),
    (Role::Define, &[
        "mean", "what does", "definition of", "define", "meaning of", "stand for",
        "what is meant by", "definition", "explain",
    ]),
    (Role::Calculated, &[
        "calculated", "calculate", "computed", "compute", "defined", "worked out", "measured",
    ]),
    (Role::Explain, &[
        "how did you calculate that", "how did you get that", "how did you calculate",
        "how is that calculated", "how was that calculated", "how did you compute that",
        "explain that", "show the query", "show me the query", "show sql", "show me the sql",
        "where does that come from", "where does this number come from", "how do you know",
        "which query", "how did you work that out", "how did you get this",
        "where does that number come from", "show the sql",
    ]),
    (Role::CoverageAsk, &[
        "what dates do you have", "which dates do you have", "how far back", "date range",
        "what period do you have", "what dates", "which dates", "latest data", "how fresh",
        "up to date", "how recent", "data available", "what time range", "oldest data",
        "newest data", "which period", "how current", "from when", "since when",
    ]),
    (Role::CatalogAsk, &[
        "what can i ask", "what can you do", "what metrics", "which metrics", "what measures",
        "which measures", "list metrics", "list the metrics", "list measures",
        "what data do you have", "what do you know", "help", "what kpis", "which kpis",
        "what questions can i ask", "what can you tell me", "available metrics", "list all metrics",
        "what can you answer",
    ]),
    (Role::Export, &["export", "csv", "download", "as csv", "excel", "xlsx", "spreadsheet"]),
    (Role::Reset, &[
        "forget that", "start over", "never mind", "reset", "new question", "forget it",
        "scratch that", "forget about that",
    ]),
    (Role::Same, &["same", "same for", "the same", "likewise", "same thing", "do the same"]),
    (Role::WhatAbout, &["what about", "how about"]),
    (Role::Also, &["also", "add", "include", "together with", "too"]),
    (Role::Instead, &["instead", "rather", "switch to", "change to"]),
    (Role::Its, &["its", "their", "his", "her"]),
    (Role::Demonstrative, &["that", "this", "those", "these", "it", "that one", "this one"]),
    (Role::Only, &["only", "just"]),
    (Role::Drop, &["remove", "clear", "drop the", "without the"]),
    (Role::Everything, &["everything", "anything", "all"]),
    (Role::Everyday, &[
        "performance", "quality", "efficiency", "productivity", "result", "figure", "number",
        "stat", "kpi", "metric", "doing", "perform", "performing",
    ]),
    (Role::Moving, &["moving", "rolling"]),
    (Role::Filler, FILLERS),
];

#[rustfmt::skip]
const FILLERS: &[&str] = &[
    "show", "me", "give", "us", "tell", "please", "can", "could", "you", "i", "we", "our", "my",
    "want", "would", "like", "need", "needed", "see", "get", "getting", "what", "is", "are", "was",
    "were", "be", "been", "do", "did", "have", "has", "had", "how", "much", "for", "on", "in", "at",
    "to", "from", "with", "there", "they", "them", "one", "some", "now", "ok", "okay", "hi", "hey",
    "hello", "thanks", "thank", "value", "data", "right", "currently", "current", "made", "make",
    "produced", "produce", "manufactured", "manufacture", "work", "worked", "working", "going",
    "look", "looking", "level", "logged", "recorded", "reported", "still", "but", "so", "far",
    "vary", "varies", "differ", "differs", "come", "out", "break", "broken", "split", "run", "ran",
    "happened", "happen", "boss", "manager", "wants", "slide", "report", "dashboard", "during",
    "within", "display", "plot", "chart", "graph", "list", "give me", "per cent", "when", "where",
    "if", "had been", "went", "go", "about", "let", "lets", "find", "check", "view", "overview",
    "summary", "summarise", "summarize", "actual", "actually", "please show", "between", "among",
    "cost us", "end", "here", "s", "t", "does", "id", "as", "while", "ever", "then", "set",
    "member", "item", "name", "named", "called", "type", "kind", "different", "various", "many",
    "using", "use", "based", "column", "row", "record", "full", "complete", "breakdown", "yet",
    "most recent", "had any", "belong", "due", "seen", "occur", "occurred", "found", "came",
    "came out", "vs the", "filter", "how good", "how bad", "how high", "how low", "quick", "quickly",
    "question", "answer", "know", "should i", "around", "roughly", "exactly",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_phrases() {
        assert!(PHRASES.iter().all(|(_, phrases)| !phrases.is_empty()));
    }
}
