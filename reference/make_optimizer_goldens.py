"""Write golden/optimizers: ten steps of AdamW, AdamW with 8-bit moments and Muon on one small set of parameters, in float32.

Parameters and gradients come from `draw`, which both sides compute exactly, so only results are stored:

    adamw.safetensors    NAME                          torch.optim.AdamW
    adamw8.safetensors   NAME, exp_avg[_sq].NAME U8, exp_avg[_sq]_scale.NAME F32, and the code values `signed`, `unsigned`
    muon.safetensors     NAME                          torch.optim.Muon, its products in float32 instead of bfloat16

`settings.json` holds the settings, and how far torch.optim.Muon with its own bfloat16 products lies from ours.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.optim._muon as torch_muon
from safetensors.numpy import save_file
from shakti_reference import GOLDEN, splitmix64, write_json

STEPS, LR, BETAS, EPS, DECAY, MOMENTUM = 10, 1e-3, (0.9, 0.95), 1e-8, 0.1, 0.95
HIDDEN, FFN, VOCAB, HEAD, KV_HEADS = 64, 96, 70, 16, 2
BLOCK, MIN_8BIT = 256, 4096
LAYER = "model.layers.0"
SHAPES = {
    "model.embed_tokens.weight": (VOCAB, HIDDEN),
    f"{LAYER}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    f"{LAYER}.self_attn.k_proj.weight": (HEAD * KV_HEADS, HIDDEN),
    f"{LAYER}.self_attn.v_proj.weight": (HEAD * KV_HEADS, HIDDEN),
    f"{LAYER}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    f"{LAYER}.mlp.gate_proj.weight": (FFN, HIDDEN),
    f"{LAYER}.mlp.up_proj.weight": (FFN, HIDDEN),
    f"{LAYER}.mlp.down_proj.weight": (HIDDEN, FFN),
    f"{LAYER}.input_layernorm.weight": (HIDDEN,),
    f"{LAYER}.post_attention_layernorm.weight": (HIDDEN,),
    "model.norm.weight": (HIDDEN,),
}


def draw(step: int, tensor: int, shape: tuple[int, ...]) -> np.ndarray:
    """Exact float32 draws: h = splitmix64(step 2^40 + tensor 2^32 + index); (h >> 40) / 2^23 - 1, times 2^-(h mod 8)."""
    count = int(np.prod(shape))
    hashes = np.array([splitmix64((step << 40) + (tensor << 32) + i) for i in range(count)], dtype=np.uint64)
    unit = (hashes >> np.uint64(40)).astype(np.float64) / 2**23 - 1.0
    values = unit * 2.0 ** -(hashes % np.uint64(8)).astype(np.float64)
    return values.astype(np.float32).reshape(shape)


def initial() -> dict[str, np.ndarray]:
    return {name: draw(0, i, shape) for i, (name, shape) in enumerate(SHAPES.items())}


def grads(step: int) -> dict[str, np.ndarray]:
    return {name: draw(step, i, shape) for i, (name, shape) in enumerate(SHAPES.items())}


def is_hidden_matrix(name: str) -> bool:
    return len(SHAPES[name]) == 2 and name.startswith("model.layers.")


def with_torch(make_optimizers) -> dict[str, np.ndarray]:
    """Ten steps of the optimizers that `make_optimizers(named parameters)` returns."""
    params = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in initial().items()}
    optimizers = make_optimizers(params)
    for step in range(1, STEPS + 1):
        for name, grad in grads(step).items():
            params[name].grad = torch.from_numpy(grad)
        for optimizer in optimizers:
            optimizer.step()
    return {name: p.detach().numpy() for name, p in params.items()}


def adamw(params: dict) -> list:
    matrices = [p for p in params.values() if p.dim() == 2]
    vectors = [p for p in params.values() if p.dim() == 1]
    groups = [{"params": g, "weight_decay": d} for g, d in ((matrices, DECAY), (vectors, 0.0)) if g]
    return [torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS, foreach=False)]


def muon(params: dict) -> list:
    hidden = {name: p for name, p in params.items() if is_hidden_matrix(name)}
    rest = {name: p for name, p in params.items() if not is_hidden_matrix(name)}
    ours = torch.optim.Muon(
        hidden.values(), lr=LR, weight_decay=DECAY, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
    )
    return [ours, *adamw(rest)]


def newton_schulz(dtype: torch.dtype):
    """torch's iteration with products in `dtype`."""

    def function(grad, coefficients, steps, eps):
        a, b, c = coefficients
        x = grad.to(dtype=dtype, copy=True)
        if grad.size(0) > grad.size(1):
            x = x.T
        x.div_(x.norm().clamp(min=eps))
        for _ in range(steps):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x.T if grad.size(0) > grad.size(1) else x

    return function


def dynamic_values(signed: bool) -> np.ndarray:
    """The 256 values of Dettmers et al. 2021 (bitsandbytes' create_dynamic_map with 7 exponents)."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = np.linspace(0.1, 1.0, 2 ** (exponent + (0 if signed else 1)) + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (exponent - 6)
        values += list(middles) + (list(-middles) if signed else [])
    return np.sort(np.array(values)).astype(np.float32)


def quantize(values: np.ndarray, table: np.ndarray, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes and the scale of each block; `positive`: what is above 0 stays above 0."""
    codes, scales = [], []
    for block in np.split(values, range(BLOCK, len(values), BLOCK)):
        scale = np.abs(block).max()
        share = block / scale if scale > 0 else block
        code = np.abs(share[:, None].astype(np.float64) - table[None].astype(np.float64)).argmin(axis=1)
        codes.append(np.where(positive & (block > 0), np.maximum(code, 1), code))
        scales.append(scale)
    return np.concatenate(codes).astype(np.uint8), np.array(scales, dtype=np.float32)


def with_8bit_moments() -> dict[str, np.ndarray]:
    """AdamW in numpy float32; moments of matrices with at least 4,096 values are quantized after every step."""
    params, f32 = initial(), np.float32
    tables = [dynamic_values(signed=True), dynamic_values(signed=False)]
    moments = {name: [np.zeros(p.size, f32), np.zeros(p.size, f32)] for name, p in params.items()}
    stored: dict[str, np.ndarray] = {"signed": tables[0], "unsigned": tables[1]}
    for step in range(1, STEPS + 1):
        for name, grad in grads(step).items():
            g, (m, v) = grad.ravel(), moments[name]
            decay = DECAY if grad.ndim == 2 else 0.0
            m = m + f32(1 - f32(BETAS[0])) * (g - m)
            v = f32(BETAS[1]) * v + f32(1 - f32(BETAS[1])) * g * g
            denominator = np.sqrt(v) * f32(1 / np.sqrt(1 - BETAS[1] ** step)) + f32(EPS)
            change = f32(LR / (1 - BETAS[0] ** step)) * m / denominator
            params[name] = (params[name].ravel() * f32(1 - LR * decay) - change).reshape(grad.shape)
            if grad.ndim == 2 and grad.size >= MIN_8BIT:
                quantized = [quantize(x, table, i == 1) for i, (x, table) in enumerate(zip((m, v), tables))]
                for key, (codes, scales) in zip(("exp_avg", "exp_avg_sq"), quantized):
                    stored |= {f"{key}.{name}": codes.reshape(grad.shape), f"{key}_scale.{name}": scales}
                m, v = (
                    np.repeat(scales, BLOCK)[: codes.size] * table[codes]
                    for (codes, scales), table in zip(quantized, tables)
                )
            moments[name] = [m, v]
    return stored | params


def deviation(left: dict, right: dict) -> float:
    """Largest difference of the ten steps' changes, relative to the largest change of the tensor."""
    start = initial()
    worst = 0.0
    for name in right:
        change = np.abs(right[name] - start[name]).max()
        worst = max(worst, float(np.abs(left[name] - right[name]).max() / change))
    return worst


def main() -> None:
    target = GOLDEN / "optimizers"
    target.mkdir(exist_ok=True)
    save_file(with_torch(adamw), target / "adamw.safetensors")
    save_file(with_8bit_moments(), target / "adamw8.safetensors")
    own = torch_muon._zeropower_via_newtonschulz
    plain = with_torch(muon)
    torch_muon._zeropower_via_newtonschulz = newton_schulz(torch.bfloat16)
    same = with_torch(muon)
    assert all((plain[name] == same[name]).all() for name in plain), "our iteration is not torch's"
    torch_muon._zeropower_via_newtonschulz = newton_schulz(torch.float32)
    exact = with_torch(muon)
    torch_muon._zeropower_via_newtonschulz = own
    save_file(exact, target / "muon.safetensors")
    write_json(target / "settings.json", {
        "steps": STEPS, "learning_rate": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, "momentum": MOMENTUM,
        "muon_bf16_deviation_of_changes": deviation(plain, exact),
    })


if __name__ == "__main__":
    main()
