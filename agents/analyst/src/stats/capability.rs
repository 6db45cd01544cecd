//! Whether a process stays within its specification limits.

use super::control::within;
use super::{deviation, mean};

/// Values fewer than these say nothing about a tail.
const VALUES_MIN: usize = 30;

/// Capability within the process (short term), performance over all values (long term). The indices
/// that need both limits are absent with one.
#[derive(Clone, Debug, PartialEq)]
pub struct Capability {
    pub cp: Option<f64>,
    pub cpk: f64,
    pub pp: Option<f64>,
    pub ppk: f64,
    pub mean: f64,
    pub outside: usize,
}

/// The indices of values in the order of time; `None` of too few values, or of no spread.
pub fn capability(values: &[f64], lower: Option<f64>, upper: Option<f64>) -> Option<Capability> {
    if values.len() < VALUES_MIN {
        return None;
    }
    let (mean, short, long) = (mean(values)?, within(values)?, deviation(values)?);
    let outside = values.iter().filter(|it| {
        lower.is_some_and(|limit| **it < limit) || upper.is_some_and(|limit| **it > limit)
    });
    Some(Capability {
        cp: spread(short, lower, upper),
        cpk: nearest(mean, short, lower, upper)?,
        pp: spread(long, lower, upper),
        ppk: nearest(mean, long, lower, upper)?,
        mean,
        outside: outside.count(),
    })
}

fn spread(sigma: f64, lower: Option<f64>, upper: Option<f64>) -> Option<f64> {
    Some((upper? - lower?) / (6.0 * sigma))
}

/// By the limit that the mean is nearer to.
fn nearest(mean: f64, sigma: f64, lower: Option<f64>, upper: Option<f64>) -> Option<f64> {
    let below = lower.map(|limit| (mean - limit) / (3.0 * sigma));
    let above = upper.map(|limit| (limit - mean) / (3.0 * sigma));
    below.into_iter().chain(above).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST/SEMATECH e-Handbook, 6.1.6: limits 8 and 20, mean 16, standard deviation 2.
    #[test]
    fn indices_are_those_of_the_handbook() {
        let (lower, upper) = (Some(8.0), Some(20.0));
        assert!((spread(2.0, lower, upper).unwrap() - 1.0).abs() < 1e-12);
        assert!((nearest(16.0, 2.0, lower, upper).unwrap() - 0.6667).abs() < 1e-4);
        assert_eq!(spread(2.0, None, upper), None);
        assert!((nearest(16.0, 2.0, None, upper).unwrap() - 0.6667).abs() < 1e-4);
    }

    #[test]
    fn what_drifts_is_less_capable_over_all_than_from_one_to_the_next() {
        let drift: Vec<f64> = (0..60u32)
            .map(|n| 10.0 + 0.05 * f64::from(n) + 0.1 * f64::from(n % 2))
            .collect();
        let found = capability(&drift, Some(9.0), Some(13.0)).unwrap();
        assert!(found.ppk < found.cpk, "{found:?}");
        assert_eq!(found.outside, 1);
        assert_eq!(capability(&drift[..20], Some(9.0), None), None);
        assert_eq!(capability(&drift, None, None), None);
    }
}
