//! Control charts: individuals with moving ranges, and shares of samples of differing size.

use super::mean;

/// `d2` for ranges of two values: how much wider than its standard deviation a normal pair lies.
const D2_OF_PAIRS: f64 = 1.128;

/// A chart: its centre, its spread, and the limits of each point.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub centre: f64,
    /// The standard deviation of each point, in the order of the points.
    pub sigmas: Vec<f64>,
}

impl Chart {
    /// Lower and upper limit of a point, three standard deviations from the centre.
    pub fn limits(&self, at: usize) -> Option<(f64, f64)> {
        let sigma = self.sigmas.get(at)?;
        Some((self.centre - 3.0 * sigma, self.centre + 3.0 * sigma))
    }

    /// The points in standard deviations from the centre, which is what rules are about.
    pub fn standardised(&self, values: &[f64]) -> Vec<f64> {
        let points = values.iter().zip(&self.sigmas);
        let one = |(value, sigma): (&f64, &f64)| match *sigma {
            sigma if sigma > 0.0 => (value - self.centre) / sigma,
            _ => 0.0,
        };
        points.map(one).collect()
    }
}

/// The individuals chart; its spread is that of neighbours, so a drift does not widen it. `None` of
/// fewer than three values, or of values that never move.
pub fn individuals(values: &[f64]) -> Option<Chart> {
    let sigma = within(values)?;
    Some(Chart {
        centre: mean(values)?,
        sigmas: vec![sigma; values.len()],
    })
}

/// The standard deviation within the process, by its mean moving range.
pub fn within(values: &[f64]) -> Option<f64> {
    let ranges: Vec<f64> = values.windows(2).map(|it| (it[1] - it[0]).abs()).collect();
    let sigma = mean(&ranges)? / D2_OF_PAIRS;
    (ranges.len() >= 2 && sigma > 0.0).then_some(sigma)
}

/// The chart of shares (0 to 1) of samples of these sizes. `None` where all or none has it.
pub fn shares(shares: &[f64], sizes: &[f64]) -> Option<Chart> {
    let whole: f64 = sizes.iter().sum();
    let having: f64 = shares
        .iter()
        .zip(sizes)
        .map(|(share, size)| share * size)
        .sum();
    let centre = having / whole;
    let spread = centre * (1.0 - centre);
    if shares.len() < 3 || !spread.is_finite() || spread <= 0.0 {
        return None;
    }
    let sigma = |size: &f64| {
        if *size > 0.0 {
            (spread / size).sqrt()
        } else {
            f64::INFINITY
        }
    };
    Some(Chart {
        centre,
        sigmas: sizes.iter().map(sigma).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST/SEMATECH e-Handbook, 6.3.2.2, flow rates of ten batches.
    #[test]
    fn individuals_have_the_limits_of_the_handbook() {
        let flow = [49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1];
        let chart = individuals(&flow).unwrap();
        let (lower, upper) = chart.limits(0).unwrap();
        assert!((chart.centre - 50.81).abs() < 1e-9);
        assert!((upper - 55.8041).abs() < 1e-3, "{upper}");
        assert!((lower - 45.8159).abs() < 1e-3, "{lower}");
    }

    /// NIST/SEMATECH e-Handbook, 6.3.3.2, 30 wafers of 50 chips.
    #[test]
    fn shares_have_the_limits_of_the_handbook() {
        let defective = [
            12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22, 8, 10, 5, 13, 11, 20, 18, 24, 15,
            9, 12, 7, 13, 9, 6,
        ];
        let parts: Vec<f64> = defective.iter().map(|it| f64::from(*it) / 50.0).collect();
        let chart = shares(&parts, &[50.0; 30]).unwrap();
        let (lower, upper) = chart.limits(14).unwrap();
        assert!((chart.centre - 0.2313).abs() < 1e-4, "{}", chart.centre);
        assert!((lower - 0.0524).abs() < 1e-4 && (upper - 0.4102).abs() < 1e-4);
        // Sample 15 (0.44) and sample 23 (0.48) lie beyond.
        let beyond: Vec<usize> = (0..30).filter(|at| parts[*at] > upper).collect();
        assert_eq!(beyond, [14, 22]);
    }

    #[test]
    fn what_never_moves_has_no_chart() {
        assert_eq!(individuals(&[5.0; 20]), None);
        assert_eq!(individuals(&[5.0, 6.0]), None);
        assert_eq!(shares(&[1.0; 5], &[10.0; 5]), None);
        assert_eq!(shares(&[0.5; 5], &[0.0; 5]), None);
    }
}
