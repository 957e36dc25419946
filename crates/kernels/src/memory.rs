//! Memory for weights and large arrays: few large mappings that ask for huge pages.
//!
//! With 4 KiB pages a core that streams weights spends a part of its time on address translation. How large a part
//! depends on the machine and the moment: one thread read 48 MB at 8.6 to 26 GB/s, and at 15 to 29 GB/s from huge pages
//! (runs of one day on a shared virtual machine on a Sapphire Rapids server, software prefetch in both cases).
//! Most weights are smaller than a huge page, so they share mappings; one is unmapped when its last weight is gone.

use crate::blocks::BlockError;
use memmap2::{MmapMut, MmapRaw};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of a huge page.
pub(crate) const HUGE_PAGE: usize = 2 << 20;
/// Address space of a mapping; its pages take memory only when something is written to them.
const MAPPING: usize = 64 << 20;
/// Regions start at cache lines.
const LINE: usize = 64;

/// The mapping that still has room, and how much of it is taken.
static OPEN: Mutex<(Weak<Mapping>, usize)> = Mutex::new((Weak::new(), 0));

struct Mapping {
    map: MmapRaw,
    /// Bytes before the first huge page.
    skip: usize,
    capacity: usize,
}

impl Mapping {
    fn new(capacity: usize) -> Option<Self> {
        let map = MmapRaw::from(MmapMut::map_anon(capacity.checked_add(HUGE_PAGE)?).ok()?);
        let skip = map.as_ptr().align_offset(HUGE_PAGE);
        // Only a wish: without huge pages everything works, slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::HugePage, skip, capacity);
        Some(Self { map, skip, capacity })
    }
}

/// A part of a mapping that belongs to one weight, zero at first.
pub(crate) struct Region {
    /// `None` for no bytes.
    mapping: Option<Arc<Mapping>>,
    start: usize,
    len: usize,
}

impl Region {
    /// `len` zero bytes, aligned to 64.
    pub fn zeroed(len: usize) -> Result<Self, BlockError> {
        if len == 0 {
            return Ok(Self { mapping: None, start: 0, len });
        }
        Self::take(len).ok_or(BlockError::OutOfMemory { bytes: len })
    }

    fn take(len: usize) -> Option<Self> {
        let room = len.checked_next_multiple_of(LINE)?;
        if room > MAPPING / 2 {
            // Alone, so that nothing small keeps it from being unmapped.
            let mapping = Mapping::new(room.checked_next_multiple_of(HUGE_PAGE)?)?;
            return Some(Self { mapping: Some(Arc::new(mapping)), start: 0, len });
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let (mapping, start) = match open.0.upgrade() {
            Some(mapping) if room <= mapping.capacity - open.1 => (mapping, open.1),
            _ => {
                let mapping = Arc::new(Mapping::new(MAPPING)?);
                open.0 = Arc::downgrade(&mapping);
                (mapping, 0)
            }
        };
        open.1 = start + room;
        Some(Self { mapping: Some(mapping), start, len })
    }

    fn pointer(&self) -> *mut u8 {
        match &self.mapping {
            Some(mapping) => mapping.map.as_mut_ptr().wrapping_add(mapping.skip + self.start),
            None => std::ptr::without_provenance_mut(LINE),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: these bytes of the living mapping are initialized (zero at first) and belong to this region alone.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the region is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zero_aligned_and_apart() {
        let mut regions: Vec<Region> =
            [1, 64, 100, MAPPING, 7, 3 << 20].map(|len| Region::zeroed(len).expect("memory")).into();
        for (i, region) in regions.iter_mut().enumerate() {
            assert!(region.bytes().iter().all(|b| *b == 0));
            assert!(region.bytes().as_ptr().addr().is_multiple_of(LINE));
            region.bytes_mut().fill(i as u8 + 1);
        }
        for (i, region) in regions.iter().enumerate() {
            assert!(region.bytes().iter().all(|b| usize::from(*b) == i + 1));
        }
        assert!(Region::zeroed(0).expect("nothing").bytes().is_empty());
        assert!(matches!(Region::zeroed(usize::MAX), Err(BlockError::OutOfMemory { .. })));
        assert!(matches!(Region::zeroed(usize::MAX / 2), Err(BlockError::OutOfMemory { .. })));
    }
}
