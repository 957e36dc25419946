//! What the writer refuses, and that files appear whole or not at all.

use crate::{GgufError, GgufErrorKind, GgufFile, GgufWriter, Overwrite, TensorType, Value};

/// A file with every value type, arrays, and tensors whose sizes need padding.
fn sample() -> Result<GgufWriter, GgufError> {
    let mut writer = GgufWriter::new();
    writer.put("general.architecture", "llama")?;
    writer.put("v.u8", 1u8)?;
    writer.put("v.i8", -1i8)?;
    writer.put("v.u16", 2u16)?;
    writer.put("v.i16", -2i16)?;
    writer.put("v.u32", 3u32)?;
    writer.put("v.i32", -3i32)?;
    writer.put("v.f32", 0.5f32)?;
    writer.put("v.bool", true)?;
    writer.put("v.u64", u64::MAX)?;
    writer.put("v.i64", i64::MIN)?;
    writer.put("v.f64", 1e-300f64)?;
    writer.put_array("a.i32", &[1i32, -2, 3])?;
    writer.put_array("a.bool", &[true, false])?;
    writer.put_array::<f32>("a.empty", &[])?;
    writer.put_strings("a.strings", &["", "\u{20ac}", "x"])?;
    writer.add_tensor("first", &[3], TensorType::F32)?;
    writer.add_tensor("second", &[32, 2], TensorType::from_name("q8_0").expect("a type"))?;
    Ok(writer)
}

fn bytes_of(writer: GgufWriter) -> Vec<u8> {
    let mut sink = writer.write_to(Vec::new()).expect("memory does not fail");
    sink.write_tensor("first", &[1; 12]).expect("first");
    sink.write_part("second", &[2; 60]).expect("a part");
    sink.write_part("second", &[3; 8]).expect("the rest");
    sink.finish().expect("complete")
}

#[test]
fn values_and_tensors_come_back() {
    let writer = sample().expect("a valid header");
    let len = writer.file_len();
    let bytes = bytes_of(writer);
    assert_eq!(bytes.len() as u64, len);
    let file = GgufFile::from_bytes(bytes).expect("our own file");
    assert_eq!((file.version(), file.alignment(), file.metadata().count()), (3, 32, 16));
    assert_eq!(file.get("v.i8"), Some(Value::I8(-1)));
    assert_eq!(file.get("v.u64"), Some(Value::U64(u64::MAX)));
    assert_eq!(file.get("v.i64"), Some(Value::I64(i64::MIN)));
    assert_eq!(file.f64("v.f64").expect("a float"), Some(1e-300));
    assert_eq!(file.bool("v.bool").expect("a truth value"), Some(true));
    let array = |key| file.require_array(key).expect("an array");
    assert_eq!(array("a.i32").to_i64s().expect("integers"), [1, -2, 3]);
    assert_eq!(array("a.bool").to_bools().expect("truth values"), [true, false]);
    assert!(array("a.empty").is_empty());
    let strings: Result<Vec<_>, _> = array("a.strings").strings().expect("strings").collect();
    assert_eq!(strings.expect("UTF-8"), ["", "\u{20ac}", "x"]);
    let second = file.require_tensor("second").expect("present");
    assert_eq!((second.offset(), second.byte_len(), second.shape()), (32, 68, vec![2, 32]));
    assert_eq!(file.tensor_bytes(second)[..60], [2; 60]);
    assert_eq!(file.tensor_bytes(second)[60..], [3; 8]);
}

#[test]
fn written_read_and_written_again_is_the_same() {
    for alignment in [None, Some(256u32)] {
        let mut writer = GgufWriter::new();
        if let Some(alignment) = alignment {
            writer.put("general.alignment", alignment).expect("a valid alignment");
        }
        let source = GgufFile::from_bytes(bytes_of(sample().expect("valid"))).expect("our own file");
        let copy = |mut writer: GgufWriter, source: &GgufFile| {
            for (key, value) in source.metadata() {
                writer.put(key, value).expect("a valid entry");
            }
            for tensor in source.tensors() {
                writer
                    .add_tensor(tensor.name(), tensor.dims(), tensor.tensor_type())
                    .expect("a valid tensor");
            }
            let mut sink = writer.write_to(Vec::new()).expect("memory does not fail");
            for tensor in source.tensors() {
                sink.write_tensor(tensor.name(), source.tensor_bytes(tensor)).expect("its bytes");
            }
            sink.finish().expect("complete")
        };
        let once = copy(writer, &source);
        let again = copy(GgufWriter::new(), &GgufFile::from_bytes(once.clone()).expect("our own file"));
        assert_eq!(once, again);
    }
}

#[test]
fn bad_headers_are_refused() {
    let kind = |result: Result<(), GgufError>| result.expect_err("must be refused").kind();
    let mut writer = sample().expect("valid");
    assert_eq!(kind(writer.put("v.u8", 1u8)), GgufErrorKind::Duplicate);
    assert_eq!(kind(writer.put("", 1u8)), GgufErrorKind::LimitExceeded);
    assert_eq!(kind(writer.put_strings(&"k".repeat(65_536), &["v"])), GgufErrorKind::LimitExceeded);
    assert_eq!(kind(writer.put("general.alignment", 32u32)), GgufErrorKind::InvalidValue);
    assert_eq!(kind(GgufWriter::new().put("general.alignment", 33u32)), GgufErrorKind::InvalidValue);
    assert_eq!(kind(GgufWriter::new().put_array("general.alignment", &[32u32])), GgufErrorKind::InvalidValue);
    assert_eq!(kind(writer.add_tensor("first", &[1], TensorType::F32)), GgufErrorKind::Duplicate);
    assert_eq!(kind(writer.add_tensor(&"t".repeat(64), &[1], TensorType::F32)), GgufErrorKind::LimitExceeded);
    assert_eq!(kind(writer.add_tensor("t", &[1; 5], TensorType::F32)), GgufErrorKind::LimitExceeded);
    assert_eq!(kind(writer.add_tensor("t", &[1, 0], TensorType::F32)), GgufErrorKind::InvalidValue);
    assert_eq!(kind(writer.add_tensor("t", &[1 << 62], TensorType::F32)), GgufErrorKind::Overflow);
    let len = writer.file_len();
    writer.add_tensor("t", &[1 << 60], TensorType::F16).expect("two exabytes are possible");
    assert!(writer.file_len() > len);
}

#[test]
fn tensors_must_match_their_announcement() {
    let start = || sample().expect("valid").write_to(Vec::new()).expect("memory does not fail");
    let kind = |result: Result<(), GgufError>| result.expect_err("must be refused").kind();
    assert_eq!(kind(start().write_tensor("second", &[0; 68])), GgufErrorKind::WrongTensorData);
    assert_eq!(kind(start().write_tensor("first", &[0; 11])), GgufErrorKind::WrongTensorData);
    assert_eq!(kind(start().write_part("first", &[0; 13])), GgufErrorKind::WrongTensorData);
    assert_eq!(kind(start().finish().map(|_| ())), GgufErrorKind::WrongTensorData);
    let mut sink = start();
    sink.write_tensor("first", &[0; 12]).expect("first");
    sink.write_tensor("second", &[0; 68]).expect("second");
    assert_eq!(kind(sink.write_tensor("second", &[0; 68])), GgufErrorKind::WrongTensorData);
}

fn write_file(path: &std::path::Path, overwrite: Overwrite) -> Result<(), GgufError> {
    let mut file = sample()?.create(path, overwrite)?;
    file.write_tensor("first", &[1; 12])?;
    file.write_tensor("second", &[2; 68])?;
    file.finish()
}

#[test]
fn files_appear_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let names = || {
        let entries = std::fs::read_dir(folder.path()).expect("readable");
        entries.map(|e| e.expect("an entry").file_name()).collect::<Vec<_>>()
    };
    let mut unfinished = sample().expect("valid").create(&path, Overwrite::Refuse).expect("a new file");
    unfinished.write_tensor("first", &[1; 12]).expect("first");
    assert!(!path.exists(), "the name appears only at the end");
    let error = unfinished.finish().expect_err("a tensor is missing");
    assert_eq!((error.kind(), error.file()), (GgufErrorKind::WrongTensorData, Some(path.as_path())));
    assert!(names().is_empty(), "nothing is left of a failed write");

    write_file(&path, Overwrite::Refuse).expect("a new file");
    assert_eq!(names(), ["model.gguf"]);
    let before = std::fs::read(&path).expect("readable");
    let error = write_file(&path, Overwrite::Refuse).expect_err("it exists");
    assert_eq!(error.kind(), GgufErrorKind::AlreadyExists);
    write_file(&path, Overwrite::Replace).expect("asked for");
    assert_eq!(std::fs::read(&path).expect("readable"), before, "same content, same bytes");
    assert_eq!(names(), ["model.gguf"]);
    let open = GgufFile::open(&path).expect("our own file");
    assert_eq!((open.path(), open.file_len()), (Some(path.as_path()), before.len() as u64));
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("metadata").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_file_made_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let mut file = sample().expect("valid").create(&path, Overwrite::Refuse).expect("a new file");
    file.write_tensor("first", &[1; 12]).expect("first");
    file.write_tensor("second", &[2; 68]).expect("second");
    std::fs::write(&path, "precious").expect("somebody else's file");
    assert_eq!(file.finish().expect_err("it exists").kind(), GgufErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).expect("readable"), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
}
