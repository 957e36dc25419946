//! Files built byte by byte: what is read, and what is refused with which kind, place and offset.

use crate::{GgufError, GgufErrorKind, GgufFile, Place, TensorType, Value, ValueType};

/// A file in the making, field by field, able to lie about everything.
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, num_tensors: u64, num_entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(num_tensors).u64(num_entries)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn string(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).bytes(text)
    }

    fn tensor(self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        let mut raw = self.string(name.as_bytes()).u32(dims.len() as u32);
        for &dim in dims {
            raw = raw.u64(dim);
        }
        raw.u32(type_id).u64(offset)
    }

    fn data(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + len, 7);
        self
    }

    fn open(self) -> Result<GgufFile, GgufError> {
        GgufFile::from_bytes(self.0)
    }

    #[track_caller]
    fn refused(self, kind: GgufErrorKind, place: Place) -> GgufError {
        let error = self.open().expect_err("the file must be refused");
        assert_eq!((error.kind(), error.place()), (kind, &place), "{error}");
        error
    }
}

fn key(name: &str) -> Place {
    Place::Key(name.to_owned())
}

fn tensor(name: &str) -> Place {
    Place::Tensor(name.to_owned())
}

#[test]
fn versions_2_and_3_are_read_alike() {
    for version in [2, 3] {
        let raw = Raw::new(version, 1, 1).string(b"a.b").u32(4).u32(77);
        let file = raw.tensor("t", &[2, 3], 0, 0).data(24).open().expect("a valid file");
        assert_eq!(file.version(), version);
        assert_eq!(file.get("a.b"), Some(Value::U32(77)));
        let info = file.tensor("t").expect("the tensor");
        assert_eq!((info.dims(), info.shape()), ([2, 3].as_slice(), vec![3, 2]));
        assert_eq!(info.tensor_type(), TensorType::F32);
        assert_eq!(file.tensor_bytes(info), [7; 24]);
    }
}

#[test]
fn other_versions_and_byte_orders_are_named() {
    let error = Raw::new(1, 0, 0).refused(GgufErrorKind::UnsupportedVersion, Place::Header);
    assert!(error.to_string().contains("found version 1"), "{error}");
    Raw::new(4, 0, 0).refused(GgufErrorKind::UnsupportedVersion, Place::Header);
    Raw::new(0, 0, 0).refused(GgufErrorKind::UnsupportedVersion, Place::Header);
    let error = Raw::new(3u32.swap_bytes(), 0, 0).refused(GgufErrorKind::BigEndian, Place::Header);
    assert!(error.to_string().contains("big-endian version 3"), "{error}");
    let error = Raw(b"GGML\x03\0\0\0".to_vec()).refused(GgufErrorKind::NotGguf, Place::Header);
    assert_eq!(error.found(), "`GGML`");
    Raw(Vec::new()).refused(GgufErrorKind::Truncated, Place::Header);
}

#[test]
fn lying_counts_end_at_the_end_of_the_file() {
    Raw::new(3, u64::MAX, 0).refused(GgufErrorKind::Truncated, Place::TensorIndex(0));
    Raw::new(3, 0, u64::MAX).refused(GgufErrorKind::Truncated, Place::Entry(0));
    Raw::new(3, 0, 2).string(b"k").u32(7).bytes(&[1]).refused(GgufErrorKind::Truncated, Place::Entry(1));
}

#[test]
fn lying_lengths_are_refused() {
    for len in [u64::MAX, u64::MAX / 2, 1 << 63, 1 << 62, 1 << 61, 1 << 40, 9] {
        let entry = || Raw::new(3, 0, 1).string(b"k");
        Raw::new(3, 0, 1).u64(len).bytes(&[b'k'; 8]).refused(GgufErrorKind::Truncated, Place::Entry(0));
        entry().u32(8).u64(len).bytes(&[b'v'; 8]).refused(GgufErrorKind::Truncated, key("k"));
        for element in [0, 3, 4, 7, 8, 9, 10] {
            entry().u32(9).u32(element).u64(len).bytes(&[0; 8]).refused(GgufErrorKind::Truncated, key("k"));
        }
    }
}

#[test]
fn lying_types_are_refused() {
    let entry = || Raw::new(3, 0, 1).string(b"k");
    entry().u32(13).u64(0).refused(GgufErrorKind::UnknownType, key("k"));
    entry().u32(9).u32(u32::MAX).u64(0).refused(GgufErrorKind::UnknownType, key("k"));
    entry().u32(7).bytes(&[2]).refused(GgufErrorKind::InvalidValue, key("k"));
    entry().u32(8).string(b"\xff").refused(GgufErrorKind::InvalidValue, key("k"));
    Raw::new(3, 0, 1).string(b"\xff").refused(GgufErrorKind::InvalidValue, Place::Entry(0));
    let raw = Raw::new(3, 1, 0).tensor("t", &[32], 4, 0).data(64);
    let error = raw.refused(GgufErrorKind::UnknownType, tensor("t"));
    assert_eq!(error.found(), "type 4");
}

#[test]
fn names_have_limits_and_stand_once() {
    Raw::new(3, 0, 1).string(b"").refused(GgufErrorKind::LimitExceeded, Place::Entry(0));
    Raw::new(3, 0, 1).string(&[b'k'; 65_536]).refused(GgufErrorKind::LimitExceeded, Place::Entry(0));
    let raw = Raw::new(3, 1, 0).tensor(&"t".repeat(64), &[1], 0, 0);
    raw.refused(GgufErrorKind::LimitExceeded, Place::TensorIndex(0));
    let raw = Raw::new(3, 0, 2).string(b"k").u32(0).bytes(&[1]).string(b"k").u32(0).bytes(&[1]);
    assert_eq!(raw.refused(GgufErrorKind::Duplicate, key("k")).offset(), Some(38));
    let raw = Raw::new(3, 2, 0).tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32).data(64);
    raw.refused(GgufErrorKind::Duplicate, tensor("t"));
}

#[test]
fn nested_arrays_are_read_to_a_depth() {
    let nested = |depth: u32| {
        let mut raw = Raw::new(3, 0, 1).string(b"k").u32(9);
        for _ in 1..depth {
            raw = raw.u32(9).u64(1);
        }
        raw.u32(0).u64(2).bytes(&[5, 6])
    };
    let file = nested(4).open().expect("four levels");
    let mut array = file.array("k").expect("an array").expect("present");
    for _ in 1..4 {
        let inner = array.iter().next().expect("an element").expect("valid");
        array = inner.as_array().expect("an array");
    }
    assert_eq!(array.to_i64s().expect("integers"), [5, 6]);
    nested(5).refused(GgufErrorKind::LimitExceeded, key("k"));
    // A kilobyte that would recurse for ever if nobody counted.
    let mut raw = Raw::new(3, 0, 1).string(b"k").u32(9);
    for _ in 0..100_000 {
        raw = raw.u32(9).u64(1);
    }
    raw.refused(GgufErrorKind::LimitExceeded, key("k"));
}

#[test]
fn dimensions_are_checked() {
    let with = |dims: &[u64], type_id| Raw::new(3, 1, 0).tensor("t", dims, type_id, 0).data(64);
    with(&[4, 0], 0).refused(GgufErrorKind::InvalidValue, tensor("t"));
    with(&[1; 5], 0).refused(GgufErrorKind::LimitExceeded, tensor("t"));
    with(&[31], 8).refused(GgufErrorKind::InvalidValue, tensor("t"));
    with(&[1 << 62], 0).refused(GgufErrorKind::Overflow, tensor("t"));
    with(&[1 << 32, 1 << 32], 24).refused(GgufErrorKind::Overflow, tensor("t"));
    with(&[1 << 32, 1 << 31], 41).refused(GgufErrorKind::Overflow, tensor("t"));
    with(&[u64::MAX, u64::MAX, u64::MAX, u64::MAX], 0).refused(GgufErrorKind::Overflow, tensor("t"));
    with(&[17], 0).refused(GgufErrorKind::Truncated, tensor("t"));
    assert_eq!(with(&[32], 8).open().expect("one block").tensors()[0].byte_len(), 34);
    assert_eq!(with(&[], 0).open().expect("a scalar").tensors()[0].byte_len(), 4);
}

#[test]
fn offsets_are_checked() {
    let with = |offset| Raw::new(3, 1, 0).tensor("t", &[8], 0, offset).data(64);
    with(1).refused(GgufErrorKind::InvalidValue, tensor("t"));
    with(64).refused(GgufErrorKind::Truncated, tensor("t"));
    with(u64::MAX - 31).refused(GgufErrorKind::Truncated, tensor("t"));
    with(32).open().expect("the second half");
    let two = |offset| {
        let raw = Raw::new(3, 2, 0).tensor("first", &[9], 0, 0);
        raw.tensor("second", &[8], 0, offset).data(96)
    };
    two(32).refused(GgufErrorKind::Overlap, tensor("second"));
    two(64).open().expect("no overlap");
}

#[test]
fn the_alignment_key_moves_the_data() {
    let with = |value: Raw| value.tensor("t", &[8], 0, 0);
    let entry = || Raw::new(3, 1, 1).string(b"general.alignment");
    let mut raw = with(entry().u32(4).u32(256));
    raw.0.resize(256, 0);
    let file = raw.bytes(&[9; 32]).open().expect("aligned to 256");
    assert_eq!(file.tensor_bytes(&file.tensors()[0]), [9; 32]);
    for bad in [0, 3, 48, 1 << 17] {
        with(entry().u32(4).u32(bad)).data(32).refused(GgufErrorKind::InvalidValue, key("general.alignment"));
    }
    with(entry().u32(8).string(b"32")).refused(GgufErrorKind::InvalidValue, key("general.alignment"));
}

#[test]
fn typed_access_names_key_and_type() {
    let raw =
        Raw::new(3, 0, 3).string(b"n").u32(5).u32(u32::MAX).string(b"s").u32(8).string("\u{e9}".as_bytes());
    let file = raw.string(b"a").u32(9).u32(8).u64(1).string(b"\xff").open().expect("a valid file");
    assert_eq!(file.u64("absent").expect("absence is no error"), None);
    assert_eq!(file.str("s").expect("a string"), Some("\u{e9}"));
    let error = file.u64("n").expect_err("-1 is negative");
    assert_eq!(
        (error.kind(), error.place(), error.found()),
        (GgufErrorKind::WrongType, &key("n"), "I32(-1)")
    );
    let error = file.require_str("absent").expect_err("required");
    assert_eq!((error.kind(), error.place()), (GgufErrorKind::Missing, &key("absent")));
    let array = file.require_array("a").expect("an array");
    assert_eq!((array.len(), array.element_type()), (1, ValueType::String));
    let error = array.strings().expect("strings").next().expect("one").expect_err("not UTF-8");
    assert_eq!((error.kind(), error.place()), (GgufErrorKind::InvalidValue, &key("a")));
    assert_eq!(array.to_f32s().expect_err("strings").kind(), GgufErrorKind::InvalidValue);
    assert_eq!(file.f64("a").expect_err("an array").found(), "an array of 1 String");
}

#[test]
fn errors_name_the_file() {
    let path = std::env::temp_dir().join("shakti-gguf-no-such-file.gguf");
    let error = GgufFile::open(&path).expect_err("no such file");
    assert_eq!((error.kind(), error.file()), (GgufErrorKind::Io, Some(path.as_path())));
    let error = GgufFile::open(std::env::temp_dir()).expect_err("a folder");
    assert!(error.to_string().contains(&std::env::temp_dir().display().to_string()), "{error}");
}

#[test]
fn neighbours_are_released_together() {
    let raw = Raw::new(3, 3, 0).tensor("a", &[8], 0, 0).tensor("b", &[7], 0, 32).tensor("c", &[8], 0, 64);
    let file = raw.data(96).open().expect("three tensors");
    let [a, b, c] = ["a", "b", "c"].map(|name| file.tensor(name).expect("a tensor"));
    let start = file.file_len() as usize - 96;
    assert_eq!(file.runs(vec![c, a, b]), [start..start + 96]);
    assert_eq!(file.runs(vec![c, a]), [start..start + 32, start + 64..start + 96]);
    assert_eq!(file.runs(Vec::new()), []);
    file.release(vec![a, b]);
    assert_eq!(file.tensor_bytes(a), [7; 32]);
}
