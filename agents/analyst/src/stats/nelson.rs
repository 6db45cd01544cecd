//! Nelson's eight rules: patterns that a process in control shows about three times in a thousand
//! (L. S. Nelson, Journal of Quality Technology 16, 1984).

/// One rule, by its number in the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule(pub u8);

impl Rule {
    /// What the rule is about.
    pub fn says(self) -> &'static str {
        match self.0 {
            1 => "one point beyond three standard deviations",
            2 => "nine points in a row on one side of the centre",
            3 => "six points in a row rising or falling",
            4 => "fourteen points in a row alternating",
            5 => "two of three points beyond two standard deviations on one side",
            6 => "four of five points beyond one standard deviation on one side",
            7 => "fifteen points in a row within one standard deviation",
            _ => "eight points in a row beyond one standard deviation, on both sides",
        }
    }
}

/// A rule that fires, and the point at which its pattern is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    pub rule: Rule,
    pub at: usize,
}

type Pattern = fn(&[f64]) -> bool;

/// Each rule with the number of points that it looks at.
const RULES: [(u8, usize, Pattern); 8] = [
    (1, 1, |it| it[0].abs() > 3.0),
    (2, 9, |it| one_side(it, 0.0, 9)),
    (3, 6, |it| {
        rising(it) || it.windows(2).all(|pair| pair[1] < pair[0])
    }),
    (4, 14, alternating),
    (5, 3, |it| ends_beyond(it, 2.0) && one_side(it, 2.0, 2)),
    (6, 5, |it| ends_beyond(it, 1.0) && one_side(it, 1.0, 4)),
    (7, 15, |it| it.iter().all(|point| point.abs() < 1.0)),
    (8, 8, |it| it.iter().all(|point| point.abs() > 1.0)),
];

/// The signals of points given in standard deviations from the centre, in the order of time.
pub fn signals(points: &[f64]) -> Vec<Signal> {
    let mut out = Vec::new();
    for at in 0..points.len() {
        for (number, length, fires) in RULES {
            if at + 1 >= length && fires(&points[at + 1 - length..=at]) {
                let rule = Rule(number);
                out.push(Signal { rule, at });
            }
        }
    }
    out
}

fn one_side(points: &[f64], beyond: f64, enough: usize) -> bool {
    let above = points.iter().filter(|it| **it > beyond).count();
    let below = points.iter().filter(|it| **it < -beyond).count();
    above >= enough || below >= enough
}

/// The last point is part of the pattern, or the pattern was complete before it.
fn ends_beyond(points: &[f64], beyond: f64) -> bool {
    points.last().is_some_and(|it| it.abs() > beyond)
}

fn rising(points: &[f64]) -> bool {
    points.windows(2).all(|pair| pair[1] > pair[0])
}

fn alternating(points: &[f64]) -> bool {
    points
        .windows(3)
        .all(|it| (it[1] - it[0]) * (it[2] - it[1]) < 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(points: &[f64]) -> Vec<u8> {
        let mut rules: Vec<u8> = signals(points).iter().map(|it| it.rule.0).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    #[test]
    fn each_rule_fires_on_its_pattern_and_on_no_shorter_one() {
        let cases: [(u8, Vec<f64>); 8] = [
            (1, vec![3.01]),
            (2, vec![0.1, 0.5, 0.2, 0.4, 0.1, 0.3, 0.2, 0.6, 0.1]),
            (3, vec![-0.5, -0.3, -0.1, 0.1, 0.3, 0.5]),
            (4, [0.5, -0.5].repeat(7)),
            (5, vec![2.1, 0.0, 2.2]),
            (6, vec![1.1, 1.2, 0.0, 1.3, 1.4]),
            (7, [0.2, 0.5, -0.3, -0.4, 0.1].repeat(3)),
            (8, vec![1.1, -1.2, -1.1, 1.2, 1.1, -1.3, -1.1, 1.4]),
        ];
        for (rule, points) in cases {
            assert!(fired(&points).contains(&rule), "rule {rule}");
            assert!(!fired(&points[1..]).contains(&rule), "rule {rule}, shorter");
        }
    }

    #[test]
    fn sides_do_not_mix_and_a_quiet_process_signals_nothing() {
        assert!(fired(&[2.1, 0.0, -2.2]).is_empty());
        assert!(fired(&[1.1, 1.2, 0.0, -1.3, -1.4]).is_empty());
        assert!(fired(&[0.5, -1.2, 0.3, 0.9, -0.7, 1.4, -0.2, -0.9]).is_empty());
    }
}
