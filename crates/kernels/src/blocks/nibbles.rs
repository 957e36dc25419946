//! Packing of 32 small integers: nibbles (value `i` low, value `i + 16` high in byte `i`) and a word of fifth bits.

/// The low four bits of 32 integers in 16 bytes.
pub(super) fn pack(q: &[u8; 32], bytes: &mut [u8]) {
    let (low, high) = q.split_at(16);
    for ((byte, l), h) in bytes.iter_mut().zip(low).zip(high) {
        *byte = (l & 15) | (h << 4);
    }
}

/// The 32 nibbles of 16 bytes.
pub(super) fn unpack(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| (bytes[i % 16] >> (4 * (i / 16))) & 15)
}

/// Bit 4 of 32 integers, integer `i` at bit `i`, little-endian.
pub(super) fn pack_fifth_bits(q: &[u8; 32]) -> [u8; 4] {
    let word = q.iter().enumerate().fold(0u32, |word, (i, q)| word | (u32::from(q >> 4 & 1) << i));
    word.to_le_bytes()
}

/// Nibbles joined with their fifth bits: 32 integers of 0..32.
pub(super) fn unpack_five(bits: &[u8], nibbles: &[u8]) -> [u8; 32] {
    let word = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    let mut q = unpack(nibbles);
    for (i, q) in q.iter_mut().enumerate() {
        *q |= ((word >> i & 1) << 4) as u8;
    }
    q
}
