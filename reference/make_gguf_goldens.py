"""Write golden/gguf: small GGUF files that llama.cpp's own tools wrote, with their logits and tokenizations.

    python make_gguf_goldens.py LLAMA_CPP_SOURCE_FOLDER LLAMA_CPP_BINARY_FOLDER

- `spm_q4_0.gguf`: a Hugging Face folder with a SentencePiece vocabulary, converted by `convert_hf_to_gguf.py` and quantized
  by `llama-quantize` to Q4_0 (untied, rows of 64 and 96).
- `bpe_q4_k_m.gguf`: byte-level BPE (pre-tokenizer `llama-bpe`), tied, written by the `gguf` package and quantized to Q4_K_M; rows of 128 fall back
  to other formats.

`NAME.expect.safetensors`: `input_ids` [24] I32 and `logits` [24, V], computed in float64 from the file's dequantized weights (no
engine's quantized activations). `NAME.tokens.json`: texts and the ids `llama-tokenize` gives them, no bos, control tokens in
the text read as text.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch
from shakti_reference import GOLDEN, ShaktiReference, randomize, write_tensors
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

TEXTS = [
    "A fever above 39 degrees that lasts three days needs a doctor.",
    "Drink water, rest well, and take the medicine twice a day with food.",
    "बुखार में आराम करें और पानी पिएं।",
    "ಜ್ವರ ಬಂದಾಗ ವಿಶ್ರಾಂತಿ ಪಡೆಯಿರಿ.",
    "காய்ச்சல் இருந்தால் ஓய்வெடுங்கள்.",
    "జ్వరం వచ్చినప్పుడు విశ్రాంతి తీసుకోండి.",
    "Beba agua y descanse; la fiebre bajará mañana.",
    "Buvez de l'eau et reposez-vous, ça ira mieux.",
    "Trinken Sie Wasser; größere Mengen übers Jahr.",
]
AWKWARD = ["", " ", "  two  spaces ", "tab\tand\nnew\n\nlines\n", "1234567 3.14", "it's we'll I'M", "<s> </s> <|eos|>", "🙂 e\u0301 \u200b…"]
SPECIAL = ["<|bos|>", "<|eos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPM = dict(
    vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=256, rope_theta=10000.0, rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)
BPE = dict(
    vocab_size=300, hidden_size=256, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, head_dim=64, max_position_embeddings=256, rope_theta=500000.0, rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)


def write_spm_folder(folder: Path) -> None:
    """A random LlamaForCausalLM with a SentencePiece BPE vocabulary with byte fallback."""
    model = LlamaForCausalLM(LlamaConfig(**SPM, bos_token_id=1, eos_token_id=2))
    randomize(model, seed=70, std=0.1)
    model.save_pretrained(folder)
    vocabulary = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[:2]), model_writer=vocabulary, model_type="bpe", vocab_size=SPM["vocab_size"],
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(vocabulary.getvalue())


def train_bpe() -> tuple[list[str], list[str]]:
    """Tokens (specials, bytes, merged) and merges of a byte-level BPE trained on the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE["vocab_size"], special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [" ".join(pair) for pair in model["merges"]]


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a q or k projection from half-split to the interleaved RoPE order of GGUF."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def half_split(weight: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `interleave`."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensor_names(config: dict) -> dict[str, tuple[str, int]]:
    """GGUF name -> Hugging Face name and, for q and k, the number of heads to reorder (0 elsewhere)."""
    names = {"token_embd": ("model.embed_tokens", 0), "output_norm": ("model.norm", 0), "output": ("lm_head", 0)}
    for i in range(config["num_hidden_layers"]):
        ours, theirs = f"blk.{i}.", f"model.layers.{i}."
        names |= {
            ours + "attn_norm": (theirs + "input_layernorm", 0),
            ours + "ffn_norm": (theirs + "post_attention_layernorm", 0),
            ours + "attn_q": (theirs + "self_attn.q_proj", config["num_attention_heads"]),
            ours + "attn_k": (theirs + "self_attn.k_proj", config["num_key_value_heads"]),
            ours + "attn_v": (theirs + "self_attn.v_proj", 0),
            ours + "attn_output": (theirs + "self_attn.o_proj", 0),
            ours + "ffn_gate": (theirs + "mlp.gate_proj", 0),
            ours + "ffn_up": (theirs + "mlp.up_proj", 0),
            ours + "ffn_down": (theirs + "mlp.down_proj", 0),
        }
    return {f"{g}.weight": (f"{h}.weight", heads) for g, (h, heads) in names.items()}


def write_bpe_gguf(path: Path) -> None:
    """A random tied model with the BPE vocabulary, F32."""
    reference = ShaktiReference(BPE)
    randomize(reference, seed=80, std=0.1)
    state = reference.parameter_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("golden bpe")
    writer.add_context_length(BPE["max_position_embeddings"])
    writer.add_embedding_length(BPE["hidden_size"])
    writer.add_feed_forward_length(BPE["intermediate_size"])
    writer.add_block_count(BPE["num_hidden_layers"])
    writer.add_head_count(BPE["num_attention_heads"])
    writer.add_head_count_kv(BPE["num_key_value_heads"])
    writer.add_key_length(BPE["head_dim"])
    writer.add_value_length(BPE["head_dim"])
    writer.add_rope_dimension_count(BPE["head_dim"])
    writer.add_rope_freq_base(BPE["rope_theta"])
    writer.add_layer_norm_rms_eps(BPE["rms_norm_eps"])
    writer.add_vocab_size(BPE["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens, merges = train_bpe()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    for name, (source, heads) in tensor_names(BPE).items():
        if source in state:
            weight = state[source].detach().numpy()
            writer.add_tensor(name, interleave(weight, heads) if heads else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def expect(path: Path, config: dict, seed: int) -> None:
    """Logits of the file's dequantized weights in the PyTorch reference, in float64."""
    names, state = tensor_names(config), {}
    for tensor in gguf.GGUFReader(path).tensors:
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        target, heads = names[tensor.name]
        weight = half_split(weight, heads) if heads else weight
        state[target] = torch.from_numpy(np.array(weight, dtype=np.float64))
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    reference = ShaktiReference(config).double()
    reference.load_state_dict(state, strict=True)
    ids = torch.randint(config["vocab_size"], (24,), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logits = reference(ids, [len(ids)])
    write_tensors(path.with_suffix(".expect.safetensors"), {"input_ids": ids, "logits": logits})


def tokenize(binary: Path, path: Path, folder: Path) -> None:
    """Record llama-tokenize's ids of every text."""
    cases = []
    for text in TEXTS + AWKWARD:
        (folder / "text").write_bytes(text.encode())
        command = [binary, "-m", path, "-f", folder / "text", "--ids", "--no-bos", "--no-parse-special", "--log-disable"]
        ids = json.loads(subprocess.run(command, check=True, capture_output=True).stdout) if text else []
        cases.append({"text": text, "ids": ids})
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
    path.with_suffix(".tokens.json").write_text(f"[\n{lines}\n]\n")


def main() -> None:
    """Write both files and what is expected of them."""
    source, binaries = Path(sys.argv[1]), Path(sys.argv[2])
    target = GOLDEN / "gguf"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hf = folder / "golden-spm"
        write_spm_folder(hf)
        convert = [sys.executable, source / "convert_hf_to_gguf.py", hf, "--outtype", "f32", "--outfile", folder / "spm.gguf"]
        subprocess.run(convert, check=True)
        write_bpe_gguf(folder / "bpe.gguf")
        for stem, kind, config, seed in [("spm", "Q4_0", SPM, 71), ("bpe", "Q4_K_M", BPE, 81)]:
            path = target / f"{stem}_{kind.lower()}.gguf"
            subprocess.run([binaries / "llama-quantize", folder / f"{stem}.gguf", path, kind], check=True)
            expect(path, config, seed)
            tokenize(binaries / "llama-tokenize", path, folder)


if __name__ == "__main__":
    main()
