"""Write golden/ops: one file per operation with inputs, outputs and torch.autograd's gradients.

Inputs are float32; everything is computed in float64 and stored rounded to float32. `dy` is the gradient that enters the
backward pass, `dNAME` the gradient of input NAME. Scalars (eps, window ...) stand in `golden/ops/settings.json`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from shakti_reference import GOLDEN, attention_mask, num_kv_heads, rope, write_json, write_tensors
from torch import Tensor

GENERATOR = torch.Generator().manual_seed(50)
SETTINGS: dict[str, dict] = {}


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """A float32 draw held in float64, so that the stored inputs are exactly those computed with."""
    return (scale * torch.randn(shape, generator=GENERATOR)).to(torch.float64)


def record(name: str, inputs: dict[str, Tensor], constants: dict[str, Tensor], function, **settings) -> None:
    """Run `function(**inputs, **constants)` to y, send a random dy back, and write the file."""
    leaves = {key: x.clone().requires_grad_() for key, x in inputs.items()}
    y = function(**leaves, **constants)
    dy = normal(*y.shape)
    y.backward(dy)
    tensors = inputs | constants | {"y": y, "dy": dy} | {f"d{key}": x.grad for key, x in leaves.items()}
    write_tensors(GOLDEN / "ops" / f"{name}.safetensors", tensors)
    if settings:
        SETTINGS[name] = settings


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, 1e-5)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def grouped_attention(config: dict, lengths: list[int]):
    """Attention after rotation over a flat batch: q [N, H, E], k and v [N, K, E] to [N, H, E]."""
    heads = range(num_kv_heads(config)[0])

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        group = q.shape[1] // k.shape[1]
        outputs = []
        for q_d, k_d, v_d in zip(q.split(lengths), k.split(lengths), v.split(lengths)):
            mask = torch.stack([attention_mask(config, 0, h, len(q_d)) for h in heads]).repeat_interleave(group, dim=0)
            k_d, v_d = (x.repeat_interleave(group, dim=1).transpose(0, 1) for x in (k_d, v_d))
            outputs.append(F.scaled_dot_product_attention(q_d.transpose(0, 1), k_d, v_d, attn_mask=mask).transpose(0, 1))
        return torch.cat(outputs)

    return function


def record_attention(name: str, kind: str, lengths: list[int], heads: int, kv_heads: int, **extra) -> None:
    """One attention pattern over documents of the given lengths, head_dim 16."""
    config = {"num_hidden_layers": 1, "num_kv_heads": [kv_heads], "layer_types": [kind]} | extra
    n = sum(lengths)
    inputs = {"q": normal(n, heads, 16), "k": normal(n, kv_heads, 16), "v": normal(n, kv_heads, 16)}
    record(name, inputs, {}, grouped_attention(config, lengths), document_lengths=lengths, layer=0, **config)


def record_cross_entropy() -> None:
    """Per-row losses in nats (0 where the weight is 0) and d(sum of weight * loss)/dlogits; one row is far out."""
    logits = normal(9, 97, scale=3.0)
    logits[4] *= 40.0
    targets = torch.randint(97, (9,), generator=GENERATOR)
    weights = torch.tensor([1.0, 0.0, 1.0, 0.5, 1.0, 0.0, 2.0, 1.0, 0.25], dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    losses = F.cross_entropy(leaf, targets, reduction="none")
    (losses * weights).sum().backward()
    losses = torch.where(weights == 0, 0.0, losses.detach())
    write_tensors(GOLDEN / "ops" / "cross_entropy.safetensors", {
        "logits": logits, "targets": targets, "weights": weights, "losses": losses, "dlogits": leaf.grad,
    })


def record_rope() -> None:
    """Rotation at positions up to 4,095 (angles in float64), and its inverse applied to dy."""
    for name, head_dim, theta in [("rope_16", 16, 10000.0), ("rope_64", 64, 500000.0)]:
        positions = torch.tensor([0, 1, 2, 63, 64, 1023, 4095])
        inputs = {"x": normal(len(positions), 3, head_dim)}

        def function(x: Tensor, positions: Tensor) -> Tensor:
            return rope(x, theta, positions)

        record(name, inputs, {"positions": positions}, function, theta=theta)


def main() -> None:
    """Write every operation."""
    x = normal(7, 80)
    x[3] *= 1e-3
    x[4] *= 1e3
    record("rms_norm", {"x": x, "weight": 1 + normal(80, scale=0.1)}, {}, rms_norm, eps=1e-5)
    record(
        "layer_norm", {"x": x + 0.5, "weight": 1 + normal(80, scale=0.1), "bias": normal(80, scale=0.1)}, {}, layer_norm,
        eps=1e-5,
    )
    gate = normal(5, 96, scale=2.0)
    gate[0, :6] = torch.tensor([-100.0, 100.0, -20.0, 20.0, 0.0, -1e-3])
    record("silu_mul", {"gate": gate, "up": normal(5, 96)}, {}, lambda gate, up: F.silu(gate) * up)
    ids = torch.tensor([4, 0, 4, 4, 18, 7])
    record("embedding", {"table": normal(19, 24)}, {"ids": ids}, lambda table, ids: F.embedding(ids, table))
    record("linear", {"x": normal(13, 40), "weight": normal(29, 40), "bias": normal(29)}, {}, F.linear)
    record_rope()
    record_cross_entropy()
    record_attention("attention_full", "full_attention", [70, 1, 20], heads=4, kv_heads=2)
    record_attention("attention_window", "sliding_attention", [150, 40], heads=3, kv_heads=1, sliding_window=70)
    sparse = {"block_size": 64, "local_blocks": 3, "random_blocks": 3, "global_blocks": 1, "seed": 42}
    record_attention("attention_block_sparse", "block_sparse_attention", [580], heads=1, kv_heads=1, block_sparse=sparse)
    write_json(GOLDEN / "ops" / "settings.json", SETTINGS)


if __name__ == "__main__":
    main()
