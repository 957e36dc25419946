//! A file with everything in it, and a reader of everything: for the tests here and for the fuzz target.

use shakti_gguf::{GgufError, GgufFile, GgufWriter, TensorType, Value};

/// A small valid file with every construct of the format; nested arrays are the only one the writer cannot make.
pub fn valid_file() -> Vec<u8> {
    let build = || -> Result<Vec<u8>, GgufError> {
        let mut writer = GgufWriter::new();
        writer.put("general.architecture", "llama")?;
        writer.put("general.alignment", 32u32)?;
        writer.put("llama.block_count", 2u32)?;
        writer.put("llama.rope.freq_base", 500_000f32)?;
        writer.put("tokenizer.ggml.add_bos_token", true)?;
        writer.put_strings("tokenizer.ggml.tokens", &["a", "b", "\u{c0}", ""])?;
        writer.put_array("tokenizer.ggml.token_type", &[1i32, 1, 3, 4])?;
        writer.put_array("tokenizer.ggml.scores", &[0.5f32, 1.0])?;
        writer.add_tensor("token_embd.weight", &[32, 2], TensorType::from_name("Q4_0").expect("a type"))?;
        writer.add_tensor("output_norm.weight", &[5], TensorType::F32)?;
        let mut sink = writer.write_to(Vec::new())?;
        sink.write_tensor("token_embd.weight", &[3; 36])?;
        sink.write_tensor("output_norm.weight", &[4; 20])?;
        sink.finish()
    };
    build().expect("a valid file")
}

/// Opens `bytes` and, if that works, touches everything a caller could.
pub fn read_all(bytes: Vec<u8>) -> Result<u64, GgufError> {
    fn visit(value: Value<'_>) -> Result<u64, GgufError> {
        match value {
            Value::Array(array) => array.iter().try_fold(0u64, |sum, v| Ok(sum.wrapping_add(visit(v?)?))),
            Value::String(text) => Ok(text.len() as u64),
            _ => Ok(1),
        }
    }
    let file = GgufFile::from_bytes(bytes)?;
    let mut sum = 0u64;
    for (_, value) in file.metadata() {
        sum = sum.wrapping_add(visit(value)?);
    }
    for tensor in file.tensors() {
        let elements: usize = tensor.shape().iter().product();
        let bytes = file.tensor_bytes(tensor).iter().map(|&b| u64::from(b)).sum::<u64>();
        sum = sum.wrapping_add(bytes).wrapping_add(elements as u64);
    }
    Ok(sum)
}
