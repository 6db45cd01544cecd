//! Values that lie far from the others: beyond the inner fences of a box plot (J. W. Tukey).

/// Fewer values than these have no middle half to speak of.
const VALUES_MIN: usize = 5;

/// The fences beyond which a value is an outlier; `None` of too few values.
pub fn fences(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < VALUES_MIN {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (quantile(&sorted, 1, 4), quantile(&sorted, 3, 4));
    let reach = 1.5 * (high - low);
    Some((low - reach, high + reach))
}

/// The quantile `part / of`, at the place `(n + 1) × part / of` between its neighbours.
fn quantile(sorted: &[f64], part: usize, of: usize) -> f64 {
    let place = (sorted.len() + 1) * part;
    let (whole, rest) = (place / of, place % of);
    let at = |n: usize| sorted[n.clamp(1, sorted.len()) - 1];
    let share = super::as_f64(rest) / super::as_f64(of);
    at(whole) + share * (at(whole + 1) - at(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST/SEMATECH e-Handbook, 7.1.6: 90 values, of which 1441 alone lies beyond a fence.
    #[test]
    fn fences_are_those_of_the_handbook() {
        let values: Vec<f64> = [
            30, 171, 184, 201, 212, 250, 265, 270, 272, 289, 305, 306, 322, 322, 336, 346, 351,
            370, 390, 404, 409, 411, 436, 437, 439, 441, 444, 448, 451, 453, 470, 480, 482, 487,
            494, 495, 499, 503, 514, 521, 522, 527, 548, 550, 559, 560, 570, 572, 574, 578, 585,
            592, 592, 607, 616, 618, 621, 629, 637, 638, 640, 656, 668, 707, 709, 719, 737, 739,
            752, 758, 766, 792, 792, 794, 802, 818, 830, 832, 843, 858, 860, 869, 918, 925, 953,
            991, 1000, 1005, 1068, 1441,
        ]
        .map(f64::from)
        .to_vec();
        let (low, high) = fences(&values).unwrap();
        assert!((low - -39.0).abs() < 1e-9, "{low}");
        assert!((high - 1211.0).abs() < 1e-9, "{high}");
    }

    #[test]
    fn few_values_have_no_outliers() {
        assert_eq!(fences(&[1.0, 2.0, 3.0, 400.0]), None);
        assert_eq!(fences(&[1.0; 5]), Some((1.0, 1.0)));
    }
}
