"""Gradients of a model of the 100M shape from PyTorch, for the program `gradients` in bench/ to compare with ours.

    python make_gradients.py FOLDER

Writes FOLDER/weights and FOLDER/gradients, both folders as Transformers saves them, the second with the gradient of the mean
loss in place of each weight (computed in float64, stored in float32), and FOLDER/batch.json: `ids` and `targets`, sequences of
`length` tokens. Prints how far PyTorch's own float32 and bfloat16 autocast are from float64, worst parameter first.
660 MB, so it is no golden.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from shakti_reference import randomize
from transformers import LlamaConfig, LlamaForCausalLM

SEQUENCES, LENGTH, VOCAB = 2, 256, 32000


def build() -> LlamaForCausalLM:
    """10 layers, 640 wide, FFN 2,560, 10 / 5 heads, tied embeddings: 81.9M parameters, seeded."""
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=640, intermediate_size=2560, num_hidden_layers=10, num_attention_heads=10,
        num_key_value_heads=5, max_position_embeddings=2048, rope_theta=10000.0, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    randomize(model, seed=7, std=0.02)
    model.tie_weights()
    return model


def gradients(model: LlamaForCausalLM, ids: torch.Tensor, targets: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss and the gradient of every parameter."""
    model.zero_grad()
    loss = F.cross_entropy(model(ids).logits.flatten(0, 1), targets.flatten())
    loss.backward()
    return loss.item(), {name: parameter.grad.detach().double() for name, parameter in model.named_parameters()}


def errors(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> str:
    """The norm of the difference over the norm, of each parameter: median, and worst with its name."""
    apart = {name: ((found[name] - exact[name]).norm() / exact[name].norm()).item() for name in exact}
    worst = max(apart, key=apart.get)
    return f"median {sorted(apart.values())[len(apart) // 2]:.1e}, worst {apart[worst]:.1e} ({worst})"


def main(folder: Path) -> None:
    """Write the folder."""
    drawn = torch.randint(VOCAB, (SEQUENCES, LENGTH + 1), generator=torch.Generator().manual_seed(8))
    ids, targets = drawn[:, :-1], drawn[:, 1:]
    model = build()
    model.save_pretrained(folder / "weights")
    _, single = gradients(model, ids, targets)
    with torch.autocast("cpu", torch.bfloat16):
        _, half = gradients(model, ids, targets)
    loss, exact = gradients(model.double(), ids, targets)
    print("PyTorch float32:", errors(single, exact))
    print("PyTorch bfloat16 autocast:", errors(half, exact))
    for name, parameter in model.named_parameters():
        parameter.data = exact[name]
    model.float().save_pretrained(folder / "gradients")
    batch = {"ids": ids.flatten().tolist(), "targets": targets.flatten().tolist(), "length": LENGTH, "loss": loss}
    (folder / "batch.json").write_text(json.dumps(batch))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
