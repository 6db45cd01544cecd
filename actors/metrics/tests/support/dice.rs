//! A small generator with a fixed seed: a failure can be run again.

pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }

    /// At most so many: a throw that repeats one adds none.
    pub fn some<T: Copy + PartialEq>(&mut self, of: &[T], most: u64) -> Vec<T> {
        let mut found = Vec::new();
        for _ in 0..self.roll(most + 1) {
            let it = self.one(of);
            if !found.contains(&it) {
                found.push(it);
            }
        }
        found
    }

    /// As many as thrown, each taken out of what is left.
    pub fn drawn<T: Copy>(&mut self, of: &[T], most: u64) -> Vec<T> {
        let mut left = of.to_vec();
        let count = self.roll(most + 1).min(of.len() as u64);
        let mut draw = |_| {
            let at = usize::try_from(self.roll(left.len() as u64)).unwrap();
            left.remove(at)
        };
        (0..count).map(&mut draw).collect()
    }
}
