"""Plain-Llama GGUF files in F16 with random weights and a byte-level vocabulary of 64,000: make_random_models.py FOLDER [100m 250m 500m]."""

import sys
from pathlib import Path

import gguf
import numpy as np

# Layers, hidden size, feed-forward size, heads, KV heads, head size.
SHAPES = {
    "100m": (10, 640, 2560, 10, 5, 64),
    "250m": (16, 1024, 2816, 16, 8, 64),
    "500m": (24, 2048, 768, 16, 4, 128),
}
VOCAB, CONTEXT = 64_000, 4096
SPECIAL = ["<|bos|>", "<|eos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


def byte_characters():
    """GPT-2's visible character of every byte."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in visible else chr(next(others)) for byte in range(256)]


def vocabulary():
    """Special tokens, bytes, and as many pairs of bytes as there is room for, letters first; and the merges of the pairs."""
    characters = byte_characters()
    order = sorted(range(256), key=lambda byte: (not (97 <= byte < 123 or byte == 32), byte))
    pairs = [(characters[a], characters[b]) for a in order for b in order][: VOCAB - len(SPECIAL) - 256]
    return SPECIAL + characters + [a + b for a, b in pairs], [f"{a} {b}" for a, b in pairs]


def write(folder, name):
    layers, hidden, ffn, heads, kv_heads, head = SHAPES[name]
    rng = np.random.default_rng(1)
    file = gguf.GGUFWriter(str(folder / f"random-{name}-f16.gguf"), "llama")
    file.add_name(f"random {name}")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(hidden)
    file.add_block_count(layers)
    file.add_feed_forward_length(ffn)
    file.add_head_count(heads)
    file.add_head_count_kv(kv_heads)
    file.add_key_length(head)
    file.add_value_length(head)
    file.add_rope_dimension_count(head)
    file.add_rope_freq_base(500_000.0)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_vocab_size(VOCAB)
    file.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens, merges = vocabulary()
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("gpt-2")
    file.add_token_list(tokens)
    file.add_token_merges(merges)
    file.add_token_types([3] * len(SPECIAL) + [1] * (VOCAB - len(SPECIAL)))
    file.add_bos_token_id(0)
    file.add_eos_token_id(1)
    file.add_pad_token_id(2)
    file.add_add_bos_token(True)

    def matrix(name, rows, cols):
        file.add_tensor(name, (rng.standard_normal((rows, cols), dtype=np.float32) * 0.03).astype(np.float16))

    def norm(name):
        file.add_tensor(name, np.ones(hidden, np.float32))

    matrix("token_embd.weight", VOCAB, hidden)
    norm("output_norm.weight")
    for layer in range(layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight")
        norm(block + "ffn_norm.weight")
        matrix(block + "attn_q.weight", heads * head, hidden)
        matrix(block + "attn_k.weight", kv_heads * head, hidden)
        matrix(block + "attn_v.weight", kv_heads * head, hidden)
        matrix(block + "attn_output.weight", hidden, heads * head)
        matrix(block + "ffn_gate.weight", ffn, hidden)
        matrix(block + "ffn_up.weight", ffn, hidden)
        matrix(block + "ffn_down.weight", hidden, ffn)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


if __name__ == "__main__":
    for shape in sys.argv[2:] or SHAPES:
        write(Path(sys.argv[1]), shape)
