"""Load adapter folders that shakti wrote with an installed PEFT and compare logits with the goldens.

    for name in lora rslora dora; do shakti export golden/tiny_llama /tmp/$name --to hf --adapter golden/adapters/$name; done
    python check_peft_adapter.py /tmp/lora /tmp/rslora /tmp/dora

The base is golden/tiny_llama; a folder is compared with golden/adapters/<its name>/expect.safetensors, whose logits the tests
hold our forward pass to. The exit code is 1 when the largest difference is above 1e-5 of the largest logit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from shakti_reference import GOLDEN
from transformers import LlamaForCausalLM


def difference(folder: Path) -> float:
    """Largest difference of logits over the largest logit."""
    base = LlamaForCausalLM.from_pretrained(GOLDEN / "tiny_llama", attn_implementation="eager")
    model = PeftModel.from_pretrained(base, folder).double().eval()
    expect = load_file(GOLDEN / "adapters" / folder.name / "expect.safetensors")
    with torch.no_grad():
        logits = model(expect["input_ids"][None]).logits[0]
    return ((logits - expect["logits"]).abs().max() / expect["logits"].abs().max()).item()


if __name__ == "__main__":
    differences = {name: difference(Path(name)) for name in sys.argv[1:]}
    print(json.dumps(differences))
    sys.exit(any(value > 1e-5 for value in differences.values()))
