//! Repeatable draws: hashes instead of a generator's state, so that any row can be made alone.

/// Longest block of [`shuffled`]; shares reduce to at most this many entries.
pub(crate) const SHUFFLE_MAX: usize = 100;

/// Mixes all bits of `x` (the finalizer of SplitMix64).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A name's number (FNV-1a, mixed): adding a column leaves the others' draws alone.
pub(crate) fn salt(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// The key of one unit: what all its draws start from.
pub(crate) fn unit_key(table_key: u64, hour: i64, unit: u64) -> u64 {
    mix(mix(table_key ^ hour.cast_unsigned()).wrapping_add(unit))
}

/// Evenly one of `0..n`.
pub(crate) fn below(draw: u64, n: u64) -> u64 {
    let product = u128::from(draw) * u128::from(n);
    u64::try_from(product >> 64).expect("the upper half of 128 bits fits in 64")
}

/// Evenly from `[0, 1)`.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
pub(crate) fn fraction(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

/// The entry at `position` of `0..n` shuffled under `key`: over a block of `n` positions each
/// entry comes once, so that shares hold over any stretch of time and not only on average.
pub(crate) fn shuffled(key: u64, n: usize, position: usize) -> usize {
    debug_assert!(n <= SHUFFLE_MAX && position < n);
    let mut entries: [u8; SHUFFLE_MAX] = std::array::from_fn(|entry| entry as u8);
    let mut state = key;
    for index in 0..=position {
        state = mix(state);
        let other = index + below(state, (n - index) as u64) as usize;
        entries.swap(index, other);
    }
    usize::from(entries[position])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_shuffled_block_holds_each_entry_once() {
        for key in 0..200 {
            let mut seen: Vec<usize> = (0..20).map(|at| shuffled(key, 20, at)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn draws_are_even() {
        let mut counts = [0_u32; 10];
        for unit in 0..100_000 {
            counts[below(unit_key(7, 493_000, unit), 10) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
    }
}
