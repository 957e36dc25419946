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
    let mut q = unpack(nibbles);
    let word = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for (g, four) in q.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Four bits to the lowest bit of four bytes.
        let spread = ((word >> (4 * g)) & 15).wrapping_mul(0x0020_4081) & 0x0101_0101;
        *four = (u32::from_le_bytes(*four) | (spread << 4)).to_le_bytes();
    }
    q
}

/// The nibbles of 128 bytes as the 256-value formats order them: byte `32 j + i` holds value `64 j + i` low and
/// `64 j + 32 + i` high.
pub(super) fn unpack_256(bytes: &[u8]) -> [u8; 256] {
    let mut q = [0; 256];
    for (values, bytes) in q.as_chunks_mut::<64>().0.iter_mut().zip(bytes.as_chunks::<32>().0) {
        let (low, high) = values.split_at_mut(32);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
            (*low, *high) = (byte & 15, byte >> 4);
        }
    }
    q
}

/// The other way: the low four bits of 256 integers in 128 bytes.
pub(super) fn pack_256(q: &[u8; 256], bytes: &mut [u8]) {
    for (values, bytes) in q.as_chunks::<64>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        let (low, high) = values.split_at(32);
        for ((low, high), byte) in low.iter().zip(high).zip(bytes) {
            *byte = (low & 15) | (high << 4);
        }
    }
}
