//! SplitMix64: the one random function of the model crate (initial weights, dropout seeds, block patterns).

/// Added to the state at each draw.
pub const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// One SplitMix64 step: `state + GAMMA`, then the finalizer (Steele, Lea, Flood 2014).
pub fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(GAMMA);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number between 0 and 1, neither of them included.
pub fn uniform(state: u64) -> f64 {
    ((mix(state) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}
