"""Write golden/tiny_llama (f32, untied) and golden/tiny_llama_tied (bf16, tied): folders as Transformers saves them.

Each holds what `save_pretrained` wrote, unchanged, and `expect.safetensors`: `input_ids` [40] I32 and `logits` [40, V],
computed by Transformers in float64 from the saved weights (its norms and RoPE angles stay float32). Which keys
`config.json` has depends on the version (5 writes `rope_parameters`, 4 wrote `rope_theta`), so each made one folder:

    python make_llama_goldens.py tiny_llama                 # with Transformers 5
    python make_llama_goldens.py tiny_llama_tied            # with Transformers 4.57
"""

from __future__ import annotations

import sys

import torch
from shakti_reference import GOLDEN, randomize, write_tensors
from transformers import LlamaConfig, LlamaForCausalLM

VARIANTS = {
    "tiny_llama": dict(seed=30, dtype=torch.float32, tied=False),
    "tiny_llama_tied": dict(seed=40, dtype=torch.bfloat16, tied=True),
}


def make(folder: str, seed: int, dtype: torch.dtype, tied: bool) -> None:
    """Write one folder."""
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rope_theta=10000.0, tie_word_embeddings=tied,
        bos_token_id=1, eos_token_id=2, attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    randomize(model, seed=seed, std=0.1)
    model.tie_weights()
    model = model.to(dtype)
    model.save_pretrained(GOLDEN / folder)
    ids = torch.randint(97, (40,), generator=torch.Generator().manual_seed(seed + 1))
    reloaded = LlamaForCausalLM.from_pretrained(GOLDEN / folder, attn_implementation="eager").double().eval()
    with torch.no_grad():
        logits = reloaded(ids[None]).logits[0]
    write_tensors(GOLDEN / folder / "expect.safetensors", {"input_ids": ids, "logits": logits})


if __name__ == "__main__":
    for name in sys.argv[1:]:
        make(name, **VARIANTS[name])
