"""The training peer: one step of a Llama decoder in PyTorch on the CPU, in each of its modes.

    python train_pytorch.py [--shape nano|100m] [--modes f32 f32-compile bf16 bf16-compile] [--threads 2] [--steps 12]
                            [--lora-rank 16]

Prints one JSON line a mode: tokens per second (median of the steps after warm-up, with lowest and highest), peak memory of
the process in MiB, first and last loss. Every mode runs in a process of its own, so that memory and compilation are its own.
A step is forward, loss, backward and fused AdamW on random ids; attention is scaled_dot_product_attention. With --lora-rank
PEFT's LoRA of that rank is trained on the seven linear layers, all else frozen.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

MODES = ["f32", "f32-compile", "bf16", "bf16-compile"]
# layers, hidden, FFN, query heads, KV heads, vocabulary (tied), batch, length
SHAPES = {
    "nano": (6, 256, 768, 8, 4, 4096, 8, 256),
    "100m": (10, 640, 2560, 10, 5, 32000, 4, 512),
}


def build(shape: str):
    """The decoder and its batch (ids, targets), seeded."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    layers, hidden, inner, heads, kv_heads, vocab, batch, length = SHAPES[shape]
    head_dim = hidden // heads
    frequency = 500000.0 ** (-torch.arange(head_dim // 2) * 2 / head_dim)
    angle = torch.arange(length)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()

    def rope(x):
        first, second = x.float().chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(hidden, 1e-5), nn.RMSNorm(hidden, 1e-5)
            self.q = nn.Linear(hidden, hidden, bias=False)
            self.k = nn.Linear(hidden, kv_heads * head_dim, bias=False)
            self.v = nn.Linear(hidden, kv_heads * head_dim, bias=False)
            self.o = nn.Linear(hidden, hidden, bias=False)
            self.gate = nn.Linear(hidden, inner, bias=False)
            self.up = nn.Linear(hidden, inner, bias=False)
            self.down = nn.Linear(inner, hidden, bias=False)

        def forward(self, x):
            h = self.norm1(x)
            q, k, v = (p(h).unflatten(-1, (-1, head_dim)).transpose(1, 2) for p in (self.q, self.k, self.v))
            out = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True, enable_gqa=True)
            x = x + self.o(out.transpose(1, 2).flatten(-2))
            h = self.norm2(x)
            return x + self.down(F.silu(self.gate(h)) * self.up(h))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(vocab, hidden)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.RMSNorm(hidden, 1e-5)

        def forward(self, ids, targets):
            x = self.embed(ids)
            for block in self.blocks:
                x = block(x)
            logits = F.linear(self.norm(x), self.embed.weight)
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    torch.manual_seed(0)
    model = Decoder()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.02)
    ids = torch.randint(vocab, (batch, length + 1))
    return model, ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def measure(shape: str, mode: str, threads: int, warm_up: int, steps: int, lora_rank: int) -> dict:
    """Run one mode in this process."""
    import torch

    torch.set_num_threads(threads)
    model, ids, targets = build(shape)
    if lora_rank:
        from peft import LoraConfig, inject_adapter_in_model

        names = ["q", "k", "v", "o", "gate", "up", "down"]
        model = inject_adapter_in_model(LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules=names), model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    run = torch.compile(model) if mode.endswith("compile") else model
    precision = torch.autocast("cpu", torch.bfloat16) if mode.startswith("bf16") else nullcontext()
    seconds, losses = [], []
    for _ in range(warm_up + steps):
        start = time.perf_counter()
        with precision:
            loss = run(ids, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    rates = [ids.numel() / s for s in seconds[warm_up:]]
    return {
        "peer": "pytorch", "version": torch.__version__, "shape": shape, "mode": mode, "threads": threads, "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()), "trained": sum(p.numel() for p in trained),
        "tokens_per_second": round(statistics.median(rates), 1),
        "lowest": round(min(rates), 1), "highest": round(max(rates), 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "first_loss": round(losses[0], 4), "last_loss": round(losses[-1], 4),
    }


def main() -> None:
    """Run the modes asked for, each in a child process; with --here run one mode in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="nano")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--here", action="store_true", help="measure the first mode in this process")
    arguments = parser.parse_args()
    if arguments.here:
        a = arguments
        result = measure(a.shape, a.modes[0], a.threads, a.warm_up, a.steps, a.lora_rank)
        print(json.dumps(result), flush=True)
        return
    for mode in arguments.modes:
        command = [
            sys.executable, __file__, "--here", "--shape", arguments.shape, "--modes", mode, "--threads",
            str(arguments.threads), "--warm-up", str(arguments.warm_up), "--steps", str(arguments.steps),
            "--lora-rank", str(arguments.lora_rank),
        ]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(arguments.threads)})


if __name__ == "__main__":
    main()
