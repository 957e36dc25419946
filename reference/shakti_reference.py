"""The Shakti decoder a second time, in plain PyTorch: the reference that goldens are made with.

Nothing here is fast or clever. Every attention pattern is a dense boolean mask computed from its definition, every
layer is a few lines, and parameter names are Hugging Face's state dict.

Letters: N tokens of all documents of a batch (flat), T tokens of one document, D hidden size, F FFN size, H query
heads, K key/value heads of one layer, E head_dim, V vocabulary.

A batch is flat: `ids` of shape [N] and the list of document lengths. A document is a segment of its own: positions
restart at 0, and no token sees another document.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASK64 = (1 << 64) - 1
GOLDEN = Path(__file__).resolve().parent.parent / "golden"

BLOCK_SPARSE_DEFAULTS = {
    "block_size": 64, "local_blocks": 3, "random_blocks": 3, "global_blocks": 1, "seed": 0,
}


# --- attention patterns ---------------------------------------------------------------------------------------------


def splitmix64(z: int) -> int:
    """One output of SplitMix64 for the state `z` (all arithmetic modulo 2^64)."""
    z = (z + 0x9E3779B97F4A7C15) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def visible_blocks(sparse: dict, layer: int, kv_head: int, block: int) -> list[int]:
    """Ascending key blocks that query block `block` sees: global, drawn, local and itself.

    With g global and l local blocks the candidates of the draw are g, ..., block - l - 1; the first `random_blocks` of a
    Fisher-Yates shuffle are taken (all, if fewer are left).
    """
    num_global, num_local = sparse["global_blocks"], sparse["local_blocks"]
    candidates = list(range(num_global, block - num_local))
    n = len(candidates)
    state = splitmix64(splitmix64(splitmix64(splitmix64(sparse["seed"]) ^ layer) ^ kv_head) ^ block)
    num_drawn = min(sparse["random_blocks"], n)
    for j in range(num_drawn):
        draw = splitmix64(state)
        state = (state + 0x9E3779B97F4A7C15) & MASK64
        index = j + ((draw * (n - j)) >> 64)
        candidates[j], candidates[index] = candidates[index], candidates[j]
    seen = set(range(min(num_global, block + 1))) | set(candidates[:num_drawn])
    seen |= set(range(max(0, block - num_local), block + 1))
    return sorted(seen)


def attention_mask(config: dict, layer: int, kv_head: int, length: int) -> Tensor:
    """Dense mask [T, T] of one layer and KV head: True where the row's token sees the column's token."""
    row = torch.arange(length)[:, None]
    column = torch.arange(length)[None, :]
    causal = column <= row
    kind = layer_types(config)[layer]
    if kind == "full_attention":
        return causal
    if kind == "sliding_attention":
        return causal & (row - column < config["sliding_window"])
    if kind == "block_sparse_attention":
        sparse = BLOCK_SPARSE_DEFAULTS | config.get("block_sparse", {})
        size = sparse["block_size"]
        num_blocks = (length + size - 1) // size
        blocks = torch.zeros(num_blocks, num_blocks, dtype=torch.bool)
        for block in range(num_blocks):
            blocks[block, visible_blocks(sparse, layer, kv_head, block)] = True
        return causal & blocks[row // size, column // size]
    raise ValueError(f"layer_types[{layer}] is {kind!r}")


# --- configuration --------------------------------------------------------------------------------------------------


def layer_types(config: dict) -> list[str]:
    """Attention pattern of every layer; dense where the configuration is silent."""
    return config.get("layer_types") or ["full_attention"] * config["num_hidden_layers"]


def num_kv_heads(config: dict) -> list[int]:
    """Number of KV heads of every layer."""
    return config.get("num_kv_heads") or [config["num_key_value_heads"]] * config["num_hidden_layers"]


# --- layers ---------------------------------------------------------------------------------------------------------


class RmsNorm(nn.Module):
    """y = w * x / sqrt(mean(x^2) + eps) over the last axis."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def make_norm(config: dict) -> nn.Module:
    """RMSNorm, or LayerNorm (with bias) when `norm_type` says so."""
    size, eps = config["hidden_size"], config["rms_norm_eps"]
    if config.get("norm_type", "rms_norm") == "layer_norm":
        return nn.LayerNorm(size, eps=eps)
    return RmsNorm(size, eps)


def rope(x: Tensor, theta: float, positions: Tensor) -> Tensor:
    """Rotate x [T, heads, E] by position: element i of the first half pairs with element i of the second half."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = positions.to(torch.float64)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype)[:, None], angle.sin().to(x.dtype)[:, None]
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(E) where mask) v, per head: q, k, v are [T, H, E], mask is [H, T, T]; gives [T, H, E]."""
    scores = torch.einsum("the,she->hts", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("hts,she->the", weights, v)


class Attention(nn.Module):
    """Grouped query attention: query head i uses KV head i * K / H."""

    def __init__(self, config: dict, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        self.heads, self.kv_heads = config["num_attention_heads"], num_kv_heads(config)[layer]
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        hidden, bias = config["hidden_size"], config.get("attention_bias", False)
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden, bias=bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [T, D] of one document, mask [K, T, T]; gives [T, D]."""
        length, group = len(x), self.heads // self.kv_heads
        positions, theta = torch.arange(length), self.config["rope_theta"]
        q = rope(self.q_proj(x).view(length, self.heads, self.head_dim), theta, positions)
        k = rope(self.k_proj(x).view(length, self.kv_heads, self.head_dim), theta, positions)
        v = self.v_proj(x).view(length, self.kv_heads, self.head_dim)
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = masked_attention(q, k, v, mask.repeat_interleave(group, dim=0))
        return self.o_proj(out.reshape(length, -1))


class Mlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: dict):
        super().__init__()
        hidden, inner, bias = config["hidden_size"], config["intermediate_size"], config.get("mlp_bias", False)
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Pre-norm block: two residual lines."""

    def __init__(self, config: dict, layer: int):
        super().__init__()
        self.input_layernorm = make_norm(config)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, lengths: list[int], masks: list[Tensor]) -> Tensor:
        """x [N, D] of all documents, one mask [K, T, T] per document."""
        normed = self.input_layernorm(x)
        x = x + torch.cat([self.self_attn(d, m) for d, m in zip(normed.split(lengths), masks)])
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embedding, blocks and final norm (`model.` in the state dict)."""

    def __init__(self, config: dict):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config["num_hidden_layers"]))
        self.norm = make_norm(config)


class ShaktiReference(nn.Module):
    """The whole decoder: token ids to logits."""

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)
        if config["tie_word_embeddings"]:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids: Tensor, lengths: list[int]) -> Tensor:
        """Logits [N, V] of the flat batch `ids` [N] whose documents have `lengths`."""
        x = self.model.embed_tokens(ids)
        for index, block in enumerate(self.model.layers):
            heads = range(num_kv_heads(self.config)[index])
            masks = [torch.stack([attention_mask(self.config, index, h, t) for h in heads]) for t in lengths]
            x = block(x, lengths, masks)
        return self.lm_head(self.model.norm(x))

    def parameter_dict(self) -> dict[str, nn.Parameter]:
        """Parameters by name, a tied head once (as `model.embed_tokens.weight`)."""
        return dict(self.named_parameters())


# --- helpers of the generator scripts -------------------------------------------------------------------------------


def randomize(model: nn.Module, seed: int, std: float) -> None:
    """Matrices and biases ~ N(0, std^2), norm weights 1 + N(0, 0.1^2): nothing is at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm_weight = "norm" in name and name.endswith("weight")
        parameter.data = 1.0 + 0.1 * noise if is_norm_weight else std * noise


def masked_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """sum(w * cross entropy) / sum(w), in nats: logits [N, V], targets [N], weights [N]."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (weights * losses).sum() / weights.sum()


def write_json(path: Path, value: dict) -> None:
    """Write `value` as indented JSON, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a .safetensors file, floats as F32 and integers as I32 unless they are bytes or bf16 already."""
    from safetensors.torch import save_file

    def narrow(x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            x = x.to(torch.float32)
        if x.dtype == torch.int64:
            x = x.to(torch.int32)
        return x.detach().contiguous()

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: narrow(x) for name, x in tensors.items()}, path)


def check_against_transformers() -> float:
    """Largest difference of logits from LlamaForCausalLM (dense, uniform, same state dict, f64), relative to the largest."""
    from transformers import LlamaConfig, LlamaForCausalLM

    worst = 0.0
    for tied, kv, bias in [(True, 2, False), (False, 4, False), (False, 1, True)]:
        config = dict(
            vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=kv, head_dim=16, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=tied,
            attention_bias=bias, mlp_bias=bias, max_position_embeddings=256,
        )
        ours = ShaktiReference(config)
        randomize(ours, seed=3, std=0.1)
        theirs = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager"))
        theirs.load_state_dict(ours.state_dict(), strict=True)
        ours, theirs = ours.double(), theirs.double()
        # Transformers computes RoPE angles in f32 in any precision: its error grows with the position.
        ids = torch.randint(97, (100,), generator=torch.Generator().manual_seed(4))
        expected = theirs(ids[None]).logits[0]
        worst = max(worst, ((ours(ids, [100]) - expected).abs().max() / expected.abs().max()).item())
    return worst


if __name__ == "__main__":
    difference = check_against_transformers()
    print(f"largest relative logit difference from LlamaForCausalLM: {difference:.2e}")
    assert difference < 1e-6, difference
