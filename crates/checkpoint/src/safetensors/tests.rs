//! Own files against the format's library, and damaged files against the names they must be refused with.

use std::borrow::Cow;
use std::path::Path;

use safetensors::SafeTensors;

use super::{PlannedTensor, SafetensorsFile, write_safetensors};
use crate::files::Overwrite;

fn plan(name: &str, dtype: &'static str, shape: &[usize], element: usize) -> PlannedTensor {
    let byte_len = shape.iter().product::<usize>() * element;
    PlannedTensor { name: name.to_owned(), dtype, shape: shape.to_vec(), byte_len }
}

fn sample() -> Vec<PlannedTensor> {
    vec![
        plan("z.weight", "BF16", &[3, 5], 2),
        plan("a.weight", "F32", &[2, 2], 4),
        plan("n", "F16", &[7], 2),
        plan("empty", "F32", &[0, 4], 4),
    ]
}

fn write_sample(path: &Path) {
    write_safetensors(path, Overwrite::Replace, &sample(), |tensor| {
        let fill = tensor.name.as_bytes()[0];
        Ok(Cow::Owned((0..tensor.byte_len).map(|i| fill.wrapping_add(i as u8)).collect()))
    })
    .expect("a writable folder");
}

#[test]
fn the_formats_own_library_reads_our_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    write_sample(&path);
    let bytes = std::fs::read(&path).expect("readable");
    let theirs = SafeTensors::deserialize(&bytes).expect("valid for the library");
    let ours = SafetensorsFile::open(&path).expect("valid for us");
    assert_eq!(ours.tensors().len(), theirs.len());
    for planned in sample() {
        let tensor = ours.tensor(&planned.name).expect("present");
        let view = theirs.tensor(&planned.name).expect("present");
        assert_eq!((tensor.shape.as_slice(), ours.bytes(tensor)), (view.shape(), view.data()));
        assert_eq!(tensor.dtype, planned.dtype);
    }
    write_sample(&path);
    assert_eq!(std::fs::read(&path).expect("readable"), bytes, "the same tensors give the same file");
}

#[test]
fn we_read_the_librarys_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let data: Vec<u8> = (0..24).collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 3], &data).expect("a view");
    safetensors::serialize_to_file([("x", &view)], None, &path).expect("a writable folder");
    let file = SafetensorsFile::open(&path).expect("valid");
    let tensor = file.tensor("x").expect("present");
    assert_eq!((tensor.dtype.as_str(), tensor.shape.as_slice()), ("F32", [2, 3].as_slice()));
    assert_eq!(file.bytes(tensor), data);
}

/// Opens a file made of this header and as many data bytes.
fn refusal(header: &str, data: usize) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bad.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    std::fs::write(&path, bytes).expect("a writable folder");
    let error = SafetensorsFile::open(&path).expect_err("must be refused").to_string();
    assert!(error.contains("bad.safetensors: "), "{error}");
    error
}

#[test]
fn lying_headers_are_refused_by_name() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let cases = [
        (one("F32", "[2]", "[0,8]"), 7, "tensor `t`: expected bytes 0 to 8, found a file with 7 bytes of data"),
        (one("F32", "[2]", "[0,8]"), 9, "data: expected 8 bytes, found 9 bytes"),
        (one("F32", "[3]", "[0,8]"), 8, "tensor `t`: expected 12 bytes for shape [3] of F32"),
        (one("F32", "[2]", "[8,0]"), 8, "tensor `t`: expected 8 bytes"),
        (one("F32", "[2]", "[4,12]"), 12, "tensor `t`: expected data that begins at byte 0"),
        (one("F32", "[4611686018427387904]", "[0,0]"), 0, "size fits into 64 bits"),
        (one("F32", "[9223372036854775807,4]", "[0,8]"), 8, "size fits into 64 bits"),
        (one("Q9", "[2]", "[0,8]"), 8, "tensor `t`: expected a known element type, found `Q9`"),
        (one("F32", "[-2]", "[0,8]"), 8, "tensor `t`: invalid value"),
        (one("F32", "[2]", "[0]"), 8, "tensor `t`: invalid length"),
        (r#"{"t":{"dtype":"F32","shape":[2]}}"#.to_owned(), 8, "tensor `t`: missing field"),
        (r#"{"t":3}"#.to_owned(), 8, "tensor `t`: invalid type"),
        (r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#.to_owned(), 2, "`t` stands there twice"),
        (r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#.to_owned(), 3, "tensor `b`: expected data that begins at byte 2"),
        ("[]".to_owned(), 0, "header: expected a JSON description"),
        ("{".to_owned(), 0, "header: expected a JSON description"),
    ];
    for (header, data, expected) in cases {
        let error = refusal(&header, data);
        assert!(error.contains(expected), "{header}: {error}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    write_sample(&path);
    let bytes = std::fs::read(&path).expect("readable");
    let cut = folder.path().join("cut.safetensors");
    for len in 0..bytes.len() {
        std::fs::write(&cut, &bytes[..len]).expect("a writable folder");
        SafetensorsFile::open(&cut).expect_err("a truncated file");
    }
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend(&bytes[8..]);
    std::fs::write(&cut, &huge).expect("a writable folder");
    let error = SafetensorsFile::open(&cut).expect_err("a lying header length").to_string();
    assert!(error.contains("header length: expected at most 100000000 bytes"), "{error}");
}

#[test]
fn wrong_sizes_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let result = write_safetensors(&path, Overwrite::Refuse, &sample(), |_| Ok(Cow::Borrowed(&[1, 2, 3])));
    let error = result.expect_err("3 bytes are too few").to_string();
    assert!(error.contains("tensor `z.weight`: expected 30 bytes, found 3 bytes"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
}
