//! How far two series move together.

use super::{as_f64, mean};

/// Fewer pairs than these can hardly fail to look alike.
const PAIRS_MIN: usize = 5;

/// Pearson's coefficient; `None` of too few pairs, or where one side never moves.
pub fn pearson(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < PAIRS_MIN {
        return None;
    }
    let (xs, ys): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (mx, my) = (mean(&xs)?, mean(&ys)?);
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        pairs.iter().map(|(x, y)| of(x - mx, y - my)).sum()
    };
    let (xy, xx, yy) = (sum(&|x, y| x * y), sum(&|x, _| x * x), sum(&|_, y| y * y));
    let r = xy / (xx * yy).sqrt();
    r.is_finite().then_some(r.clamp(-1.0, 1.0))
}

/// Whether so many pairs without any relation would show this coefficient less than once in twenty
/// times, by Fisher's transformation.
pub fn is_significant(r: f64, pairs: usize) -> bool {
    const NORMAL_95: f64 = 1.96;
    let free = as_f64(pairs) - 3.0;
    free > 0.0 && (r.abs() >= 1.0 || r.atanh().abs() * free.sqrt() > NORMAL_95)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anscombe's first set (The American Statistician 27, 1973).
    #[test]
    fn the_coefficient_is_that_of_anscombes_set() {
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [
            8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68,
        ];
        let pairs: Vec<(f64, f64)> = x.into_iter().zip(y).collect();
        let r = pearson(&pairs).unwrap();
        assert!((r - 0.81642).abs() < 1e-5, "{r}");
        assert!(is_significant(r, pairs.len()));
        assert!(!is_significant(0.3, pairs.len()));
    }

    #[test]
    fn what_never_moves_goes_with_nothing() {
        let still: Vec<(f64, f64)> = (0..9u32).map(|n| (f64::from(n), 2.0)).collect();
        assert_eq!(pearson(&still), None);
        assert_eq!(pearson(&still[..3]), None);
    }
}
