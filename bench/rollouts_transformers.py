"""The rollout peer: Transformers' `generate` on the CPU, sampling a batch of prompts.

    python rollouts_transformers.py --write FOLDER
    python rollouts_transformers.py FOLDER [--modes f32-dynamic f32-static bf16-dynamic bf16-static] [--batch 8]
                                    [--group 8] [--new-tokens 128] [--threads 2] [--greedy]

The first form writes a Llama of the 100M speed shape with random weights, and `prompts.json`: 32 prompts of 64 random ids. The
second prints one JSON line a mode: new tokens per second of one call after a short one, with the seconds and the peak memory of
the process in MiB. A batch of 32 in groups of 8 is 8 samples of each of 4 prompts. Every mode runs in a process of its own. No token ends a sample; sampling is from the whole distribution
at temperature 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

MODES = ["f32-dynamic", "f32-static", "bf16-dynamic", "bf16-static"]
PROMPTS, PROMPT_TOKENS = 32, 64


def write(folder: Path) -> None:
    """Weights, configuration and prompts, seeded."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=640, intermediate_size=2560, num_hidden_layers=10, num_attention_heads=10, num_key_value_heads=5,
        head_dim=64, vocab_size=32000, tie_word_embeddings=True, max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    prompts = torch.randint(3, config.vocab_size, (PROMPTS, PROMPT_TOKENS))
    (folder / "prompts.json").write_text(json.dumps(prompts.tolist()))


def measure(folder: Path, mode: str, rows: tuple[int, int], new_tokens: int, threads: int, greedy: bool) -> dict:
    """Run one mode in this process."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    batch, group = rows
    dtype, cache = mode.split("-")
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtypes[dtype]).eval()
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    ids = torch.tensor(json.loads((folder / "prompts.json").read_text())[: batch // group])
    # What `num_return_sequences` does, and TRL's trainer.
    ids = ids.repeat_interleave(group, dim=0)
    assert len(ids) == batch, "no whole groups, or more prompts asked for than written"
    options = {"attention_mask": torch.ones_like(ids), "use_cache": True, "do_sample": not greedy}
    if not greedy:
        options |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    if cache == "static":
        options["cache_implementation"] = "static"
    with torch.inference_mode():
        # A static cache keeps its length from call to call, and both calls have the same.
        model.generate(ids, max_new_tokens=4 if cache == "dynamic" else new_tokens, **options)
        start = time.perf_counter()
        out = model.generate(ids, max_new_tokens=new_tokens, **options)
        seconds = time.perf_counter() - start
    assert out.shape == (batch, ids.shape[1] + new_tokens), out.shape
    return {
        "peer": "transformers", "version": transformers.__version__, "torch": torch.__version__, "mode": mode,
        "batch": batch, "group": group, "prompt_tokens": ids.shape[1], "new_tokens": new_tokens, "greedy": greedy, "threads": threads,
        "seconds": round(seconds, 3), "tokens_per_second": round(batch * new_tokens / seconds, 2),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Write the folder, or run the modes asked for, each in a child process; with --here the first in this one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write weights and prompts into the folder")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--here", action="store_true", help="measure the first mode in this process")
    a = parser.parse_args()
    if a.write:
        write(a.folder)
    elif a.here:
        print(json.dumps(measure(a.folder, a.modes[0], (a.batch, a.group), a.new_tokens, a.threads, a.greedy)), flush=True)
    else:
        common = [sys.executable, __file__, str(a.folder), "--here", "--batch", str(a.batch), "--group", str(a.group)]
        common += ["--new-tokens", str(a.new_tokens), "--threads", str(a.threads)] + ["--greedy"] * a.greedy
        for mode in a.modes:
            environment = os.environ | {"OMP_NUM_THREADS": str(a.threads)}
            subprocess.run([*common, "--modes", mode], check=True, env=environment)


if __name__ == "__main__":
    main()
