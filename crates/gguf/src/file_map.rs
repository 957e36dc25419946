//! A file mapped into memory for reading: the one place that may do so.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file, read by the system when they are touched.
///
/// The file must not be changed or shortened while it is mapped: the system may end the process when a page
/// vanishes. Files written with [`crate::AtomicFile`] are replaced by renaming, which is safe.
#[derive(Debug)]
pub struct FileMap(Option<memmap2::Mmap>);

impl FileMap {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// If it cannot be opened or mapped, or is not a plain file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        if metadata.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is read-only and private to this value. The documentation asks that nobody changes the file
        // while it is mapped, and no invariant of a Rust type rests on the bytes: callers check text at each use and
        // positions against the length of the map.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(Some(map)))
    }

    /// Fetches `part` of these bytes into the process, in one step instead of one for each few pages that are touched.
    pub fn will_need(&self, part: &[u8]) {
        let Some((map, start)) = self.place(part) else { return };
        // Only a wish: what is not fetched now is when it is touched.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::PopulateRead, start, part.len());
        #[cfg(not(target_os = "linux"))]
        let _ = (map, start);
    }

    /// Tells the system that `part` of these bytes is not needed for now: it need not stay in the process's memory. The
    /// bytes remain and are read again when they are touched.
    pub fn release(&self, part: &[u8]) {
        let Some((map, start)) = self.place(part) else { return };
        // SAFETY: the map is shared and read-only, so its pages hold nothing but the file and come back from there.
        #[cfg(target_os = "linux")]
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, part.len()) };
        #[cfg(not(target_os = "linux"))]
        let _ = (map, start);
    }

    /// Where `part` begins in the map, if it lies there.
    fn place(&self, part: &[u8]) -> Option<(&memmap2::Mmap, usize)> {
        let map = self.0.as_ref()?;
        let start = part.as_ptr().addr().checked_sub(map.as_ptr().addr())?;
        (start + part.len() <= map.len() && !part.is_empty()).then_some((map, start))
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_are_read_again() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        std::io::Write::write_all(&mut file, &bytes).expect("written");
        let map = FileMap::open(file.path()).expect("mapped");
        assert_eq!(*map, *bytes);
        for part in [&map[..], &map[5000..60_000], &map[99_999..], &map[..0], &bytes[..10]] {
            map.release(part);
            assert_eq!(*map, *bytes);
        }
    }

    /// Kilobytes of the map that are in memory.
    #[cfg(target_os = "linux")]
    fn resident(map: &FileMap) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("a table of mappings");
        let start = format!("{:x}-", map.as_ptr().addr());
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).expect("the map is listed");
        rss.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn needed_pages_are_fetched_at_once() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, &vec![7; 1 << 20]).expect("written");
        let map = FileMap::open(file.path()).expect("mapped");
        map.will_need(&[1, 2, 3]);
        map.will_need(&map[..0]);
        assert_eq!(resident(&map), 0);
        map.will_need(&map[1 << 19..]);
        // The system may fetch some pages before them too.
        assert!((512..1024).contains(&resident(&map)), "{} kB", resident(&map));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn released_pages_leave_the_process() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, &vec![7; 1 << 20]).expect("written");
        let map = FileMap::open(file.path()).expect("mapped");
        assert!(map.iter().all(|byte| *byte == 7));
        assert_eq!(resident(&map), 1024);
        map.release(&map[1 << 19..]);
        assert_eq!(resident(&map), 512);
    }
}
