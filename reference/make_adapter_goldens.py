"""Write golden/adapters/{lora,rslora,dora}: adapters of golden/tiny_llama as PEFT saves them, and what PEFT computes.

Each folder holds `adapter_config.json` and `adapter_model.safetensors` as `save_pretrained` wrote them, and
`expect.safetensors`: `input_ids`, `targets` [40] I32, `weights` [40], `logits` [40, V], and `grad.NAME` of every tensor of
the adapter, by autograd in float64 of the weighted mean loss. PEFT takes DoRA's norm for a constant, as the paper says.

    python make_adapter_goldens.py
"""

from __future__ import annotations

import os

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from shakti_reference import GOLDEN, write_tensors
from transformers import LlamaForCausalLM

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS = {
    "lora": dict(r=4, lora_alpha=8, target_modules=ALL),
    "rslora": dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"], use_rslora=True),
    "dora": dict(r=2, lora_alpha=4, target_modules=ALL, use_dora=True),
}


def make(name: str, seed: int) -> None:
    """Write one folder."""
    base = LlamaForCausalLM.from_pretrained("tiny_llama", attn_implementation="eager")
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **VARIANTS[name])
    model = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            # Magnitudes start as norms of about 0.8; all else starts as zeros or small draws.
            parameter.data.add_(0.1 * noise)
    folder = GOLDEN / "adapters" / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    model = model.double().eval()
    ids = torch.randint(97, (40,), generator=generator)
    targets = torch.randint(97, (40,), generator=generator)
    weights = torch.randint(3, (40,), generator=generator).double()
    logits = model(ids[None]).logits[0]
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    ((losses * weights).sum() / weights.sum()).backward()
    state = get_peft_model_state_dict(model)
    gradients = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            short = key.replace(".default", "")
            short = short.removesuffix(".weight") if "magnitude" in key else short
            assert short in state, short
            gradients["grad." + short] = parameter.grad
    expect = {"input_ids": ids, "targets": targets, "weights": weights, "logits": logits.detach()}
    write_tensors(folder / "expect.safetensors", expect | gradients)


if __name__ == "__main__":
    os.chdir(GOLDEN)  # PEFT stores the path of the base as it was given.
    for index, name in enumerate(VARIANTS):
        make(name, seed=60 + index)
