"""Pretrains the speed shape in PyTorch for a time, and writes it as a folder that `shakti perplexity` opens.

    python pretrain_pytorch.py RUN/model TRAIN.jsonl OUT --minutes 4 [--shape nano] [--rate 1.5e-3] [--threads 2]

The tokenizer is that of RUN/model, which `shakti train pretrain` wrote; TRAIN has `text` in each line. f32 with torch.compile, the fastest mode of
train_pytorch.py; AdamW, warm-up of 5%, cosine to 5%. Windows are drawn from the texts one after another, as PyTorch scripts commonly
do. The clock starts after compilation and the reading of the data.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from train_pytorch import SHAPES, build

NAMES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj", "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
}


def write(model, shape: str, run: Path, out: Path) -> None:
    """The weights under the names of Transformers, with the tokenizer of `run`."""
    layers, hidden, inner, heads, kv_heads, vocab, _, length = SHAPES[shape]
    state = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            name = f"layers.{parts[1]}.{NAMES[parts[2]]}.weight"
        elif parts[0] == "embed":
            name = "embed_tokens.weight"
        state[f"model.{name}"] = tensor.contiguous()
    out.mkdir(parents=True)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
        "max_position_embeddings": length, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "hidden_act": "silu", "torch_dtype": "float32", "head_dim": hidden // heads, "attention_bias": False, "mlp_bias": False,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2))
    for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]:
        if (run / file).exists():
            shutil.copy(run / file, out / file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="nano")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--std", type=float, default=0.0625, help="deviation of the initial matrices")
    parser.add_argument("--batch", type=int, help="sequences of a step [default: the shape's]")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.from_file(str(args.run / "tokenizer.json"))
    begin, end = tokenizer.token_to_id("<|bos|>"), tokenizer.token_to_id("<|eos|>")
    texts = [json.loads(line)["text"] for line in args.train.open()]
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    ids = torch.tensor([i for text in encoded for i in [begin, *text.ids, end]])
    model = build(args.shape)[0]
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=args.std)
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model)
    length, batch = SHAPES[args.shape][7], args.batch or SHAPES[args.shape][6]

    def step(rate: float) -> float:
        starts = torch.randint(0, len(ids) - length - 1, (batch,))
        rows = torch.stack([ids[s : s + length + 1] for s in starts])
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = run(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    for _ in range(3):
        step(0.0)
    start, steps, share = time.perf_counter(), 0, 0.0
    while share < 1.0:
        cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * max(0.0, share - 0.05) / 0.95))
        loss = step(args.rate * (share / 0.05 if share < 0.05 else cosine))
        steps += 1
        share = (time.perf_counter() - start) / (60 * args.minutes)
    write(model, args.shape, args.run, args.out)
    seconds = time.perf_counter() - start
    print(json.dumps({
        "peer": "pytorch", "version": torch.__version__, "shape": args.shape, "threads": args.threads, "steps": steps,
        "tokens": steps * batch * length, "seconds": round(seconds, 1), "last_loss": round(loss, 4),
    }))


if __name__ == "__main__":
    main()
