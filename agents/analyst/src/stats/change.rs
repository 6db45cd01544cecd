//! What each group adds to the change of a whole between two periods.

/// A group's figure, and how many rows it is of, in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    pub value: f64,
    pub weight: f64,
}

/// What each group adds to the change of a sum: its own change.
pub fn of_sum(old: &[Part], new: &[Part]) -> Vec<f64> {
    let pairs = old.iter().zip(new);
    pairs.map(|(old, new)| new.value - old.value).collect()
}

/// What each group adds to the change of a mean: by its own change, and by weighing more or less
/// beside a figure that differs from the mean of all. The parts add up to the change of the whole.
pub fn of_mean(old: &[Part], new: &[Part]) -> Option<Vec<f64>> {
    let (old_all, new_all) = (whole(old)?, whole(new)?);
    let sum = |parts: &[Part]| parts.iter().map(|it| it.weight).sum::<f64>();
    let (old_sum, new_sum) = (sum(old), sum(new));
    let middle = (old_all + new_all) / 2.0;
    let one = |(old, new): (&Part, &Part)| {
        let (before, after) = (old.weight / old_sum, new.weight / new_sum);
        // A group that is in one period only has no change of its own, only a weight.
        let (old_value, new_value) = match (old.weight > 0.0, new.weight > 0.0) {
            (true, true) => (old.value, new.value),
            (true, false) => (old.value, old.value),
            (false, true) => (new.value, new.value),
            (false, false) => return 0.0,
        };
        let own = (before + after) / 2.0 * (new_value - old_value);
        let mix = (after - before) * ((old_value + new_value) / 2.0 - middle);
        own + mix
    };
    Some(old.iter().zip(new).map(one).collect())
}

/// The mean of all; `None` of nothing.
pub fn whole(parts: &[Part]) -> Option<f64> {
    let weight: f64 = parts.iter().map(|it| it.weight).sum();
    let sum: f64 = parts.iter().map(|it| it.value * it.weight).sum();
    (weight > 0.0).then(|| sum / weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(value: f64, weight: f64) -> Part {
        Part { value, weight }
    }

    #[test]
    fn the_parts_of_a_mean_add_up_to_its_change() {
        let old = [part(90.0, 100.0), part(80.0, 100.0), part(70.0, 50.0)];
        let new = [part(92.0, 50.0), part(79.0, 200.0), part(0.0, 0.0)];
        let parts = of_mean(&old, &new).unwrap();
        let change = whole(&new).unwrap() - whole(&old).unwrap();
        assert!(
            (parts.iter().sum::<f64>() - change).abs() < 1e-9,
            "{parts:?}"
        );
    }

    /// Both groups get better and the whole gets worse, as the worse one grows: Simpson's paradox.
    #[test]
    fn a_change_of_weights_is_seen_as_one() {
        let old = [part(95.0, 900.0), part(60.0, 100.0)];
        let new = [part(96.0, 500.0), part(61.0, 500.0)];
        let parts = of_mean(&old, &new).unwrap();
        assert!(whole(&new).unwrap() < whole(&old).unwrap());
        assert!(parts[1] < 0.0, "{parts:?}");
        assert_eq!(of_sum(&old, &new), [1.0, 1.0]);
        assert_eq!(of_mean(&[part(1.0, 0.0)], &[part(1.0, 1.0)]), None);
    }
}
