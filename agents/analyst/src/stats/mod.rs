//! Statistics of process control, as pure functions over numbers. Each is checked against figures
//! that a textbook or the NIST/SEMATECH e-Handbook of Statistical Methods publishes.

pub mod capability;
pub mod change;
pub mod control;
pub mod correlation;
pub mod nelson;
pub mod outliers;

/// The mean; `None` of nothing.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    let count = as_f64(values.len());
    (count > 0.0).then(|| values.iter().sum::<f64>() / count)
}

/// The standard deviation of a sample; `None` of fewer than two.
pub(crate) fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let free = as_f64(values.len()) - 1.0;
    let squares: f64 = values.iter().map(|it| (it - mean).powi(2)).sum();
    (free > 0.0).then(|| (squares / free).sqrt())
}

/// A count as a number; counts here are of rows, far below where a float loses one.
pub(crate) fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
