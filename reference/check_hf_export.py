"""Load an exported folder with an installed Transformers and write the logits it gives for token ids.

    python check_hf_export.py FOLDER IDS.json [--logits OUT.safetensors] [--expect OURS.safetensors] [--greedy N]

IDS.json is a list of ids, or a list of such lists (each evaluated alone). The logits go to OUT as `logits.0`, `logits.1`, ...
of shape [T, V] F32. With --expect, tensors of those names are compared, and the exit code is 1 when the largest difference
is above 1e-4 of the largest logit. With --greedy, N ids are generated after each list and printed. Also checks that the
folder's tokenizer loads and that its chat template renders. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]


def tokenizer_report(folder: Path) -> dict:
    """What Transformers makes of the tokenizer: ids of a text, text of the ids, and a rendered conversation."""
    if not (folder / "tokenizer.json").is_file():
        return {}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode("A fever of 39°, नमस्ते.", add_special_tokens=False)
    report = {"class": type(tokenizer).__name__, "ids": ids, "text": tokenizer.decode(ids)}
    if tokenizer.chat_template:
        report["chat"] = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    return report


def main() -> int:
    """Run the check; 0 when everything asked for agreed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("ids", type=Path)
    parser.add_argument("--logits", type=Path)
    parser.add_argument("--expect", type=Path)
    parser.add_argument("--greedy", type=int, default=0)
    arguments = parser.parse_args()

    model, loading = AutoModelForCausalLM.from_pretrained(
        arguments.folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model.eval()
    sequences = json.loads(arguments.ids.read_text())
    if sequences and isinstance(sequences[0], int):
        sequences = [sequences]
    logits = {}
    generated = []
    with torch.no_grad():
        for index, sequence in enumerate(sequences):
            ids = list(sequence)
            logits[f"logits.{index}"] = model(torch.tensor([ids])).logits[0].contiguous()
            for _ in range(arguments.greedy):
                ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
            generated.append(ids[len(sequence):])

    report = {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "missing_keys": sorted(loading["missing_keys"]),
        "unexpected_keys": sorted(loading["unexpected_keys"]),
        "tokenizer": tokenizer_report(arguments.folder),
    }
    agrees = not report["missing_keys"] and not report["unexpected_keys"]
    if arguments.greedy:
        report["greedy"] = generated
    if arguments.logits:
        save_file(logits, arguments.logits)
    if arguments.expect:
        ours = load_file(arguments.expect)
        scale = max(x.abs().max().item() for x in logits.values())
        worst = max((ours[name] - x).abs().max().item() for name, x in logits.items())
        report["largest_difference"], report["largest_logit"] = worst, scale
        agrees = agrees and worst <= 1e-4 * scale
    print(json.dumps(report, ensure_ascii=False, indent=2))
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
