"""Write golden/tiny_shakti and golden/tiny_layernorm: logits, all gradients and ten AdamW steps of small models.

Expected tensors are computed in float64 and stored rounded to float32. `expect.json` holds the scalars of the float64 and
of the float32 run, and how far the float32 run's tensors lie from the float64 ones: a tolerance that another float32
implementation can be held to.

Each folder: `config.json`, `model.safetensors` (F32, initial weights), `expect.safetensors`:

    input_ids [N] I32, document_lengths [documents] I32, targets [N] I32, loss_weights [N] F32 (0 or 1)
    logit_rows [R] I32, logits [R, V]     logits of the rows listed
    grad.NAME                             gradient of the mean masked loss, before any clipping

and, for tiny_shakti, `adamw.safetensors`: the parameters after ten optimizer steps on that same batch.
"""

from __future__ import annotations

import copy

import torch
from shakti_reference import (
    GOLDEN, ShaktiReference, check_against_transformers, masked_loss, randomize, write_json, write_tensors,
)
from torch import Tensor

ADAMW = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
WEIGHT_DECAY, MAX_NORM, STEPS = 0.1, 1.0, 10

COMMON = {
    "architectures": ["ShaktiForCausalLM"], "model_type": "shakti", "hidden_act": "silu",
    "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "torch_dtype": "float32",
}
TINY_SHAKTI = COMMON | {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 4, "num_kv_heads": [4, 2, 1], "head_dim": 16,
    "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True,
    "attention_bias": False, "mlp_bias": False, "norm_type": "rms_norm",
    "layer_types": ["sliding_attention", "block_sparse_attention", "full_attention"], "sliding_window": 48,
    "block_sparse": {"block_size": 64, "local_blocks": 3, "random_blocks": 3, "global_blocks": 1, "seed": 42},
}
TINY_LAYERNORM = COMMON | {
    "vocab_size": 61, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 3, "num_kv_heads": [1, 3], "head_dim": 16,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "attention_bias": True, "mlp_bias": True, "norm_type": "layer_norm",
    "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 7,
}


def make_batch(vocab: int, lengths: list[int], seed: int) -> dict[str, Tensor]:
    """Half-predictable random ids (next = 5 * id + 3, or a draw), targets shifted inside documents, masked in runs."""
    generator = torch.Generator().manual_seed(seed)
    documents = []
    for length in lengths:
        drawn = torch.randint(vocab, (length + 1,), generator=generator)
        surprise = torch.rand(length + 1, generator=generator) < 0.5
        for i in range(1, length + 1):
            if not surprise[i]:
                drawn[i] = (5 * drawn[i - 1] + 3) % vocab
        documents.append(drawn)
    weights = (torch.rand(sum(lengths) // 8 + 1, generator=generator) < 0.7).repeat_interleave(8)[: sum(lengths)]
    return {
        "input_ids": torch.cat([d[:-1] for d in documents]),
        "document_lengths": torch.tensor(lengths),
        "targets": torch.cat([d[1:] for d in documents]),
        "loss_weights": weights.to(torch.float32),
    }


def loss_and_grads(model: ShaktiReference, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits and mean masked loss; gradients are left in the parameters."""
    model.zero_grad()
    logits = model(batch["input_ids"], batch["document_lengths"].tolist())
    loss = masked_loss(logits, batch["targets"], batch["loss_weights"].to(logits.dtype))
    loss.backward()
    return logits.detach(), loss.detach()


def train(model: ShaktiReference, batch: dict[str, Tensor]) -> dict:
    """Ten AdamW steps on one batch: loss and unclipped gradient norm before each update, and the loss after the last."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}], **ADAMW
    )
    record: dict = {"losses": [], "grad_norms": []}
    for _ in range(STEPS):
        _, loss = loss_and_grads(model, batch)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        record["losses"].append(loss.item())
        record["grad_norms"].append(norm.item())
    record["loss_after"] = loss_and_grads(model, batch)[1].item()
    return record


def deviation(left: dict[str, Tensor], right: dict[str, Tensor]) -> dict[str, float]:
    """Largest |left - right| over all tensors, absolute and relative to the tensor's largest |right|."""
    absolute = {name: (left[name].double() - right[name].double()).abs().max().item() for name in right}
    relative = [absolute[name] / right[name].double().abs().max().item() for name in right]
    return {"max_absolute": max(absolute.values()), "max_relative_to_tensor_maximum": max(relative)}


def make(folder: str, config: dict, lengths: list[int], seed: int, optimizer_steps: bool) -> None:
    """Write one golden folder."""
    single = ShaktiReference(config)
    randomize(single, seed=seed, std=0.1)
    double = copy.deepcopy(single).double()
    if config["tie_word_embeddings"]:
        assert double.lm_head.weight is double.model.embed_tokens.weight
    batch = make_batch(config["vocab_size"], lengths, seed + 1)
    initial = {name: p.detach().clone() for name, p in single.parameter_dict().items()}
    rows = torch.linspace(0, sum(lengths) - 1, 64).round().long().unique()

    runs = {}
    for name, model in [("float64", double), ("float32", single)]:
        logits, loss = loss_and_grads(model, batch)
        grads = {f"grad.{n}": p.grad.clone() for n, p in model.parameter_dict().items()}
        runs[name] = {"loss": loss.item(), "tensors": {"logits": logits[rows]} | grads}
        if optimizer_steps:
            runs[name]["adamw"] = train(model, batch)
            runs[name]["final"] = {n: p.detach() for n, p in model.parameter_dict().items()}

    tensors64, tensors32 = runs["float64"]["tensors"], runs["float32"]["tensors"]
    expect = {
        "mean_masked_loss": {name: run["loss"] for name, run in runs.items()},
        "float32_deviation": {
            "logits": deviation({"logits": tensors32.pop("logits")}, {"logits": tensors64["logits"]}),
            "gradients": deviation(tensors32, {n: t for n, t in tensors64.items() if n != "logits"}),
        },
    }
    target = GOLDEN / folder
    if optimizer_steps:
        expect["adamw"] = {
            "settings": ADAMW | {
                "weight_decay": WEIGHT_DECAY,
                "weight_decay_on": "every 2-D tensor, the embedding included; not on norms",
                "max_grad_norm": MAX_NORM,
                "clipping": "gradients times min(1, max_grad_norm / (norm + 1e-6)); grad_norms are before clipping",
                "steps": STEPS,
            },
            "float64": runs["float64"]["adamw"], "float32": runs["float32"]["adamw"],
        }
        expect["float32_deviation"]["final_weights"] = deviation(runs["float32"]["final"], runs["float64"]["final"])
        write_tensors(target / "adamw.safetensors", runs["float64"]["final"])
    write_json(target / "config.json", config)
    write_json(target / "expect.json", expect)
    write_tensors(target / "model.safetensors", initial)
    write_tensors(target / "expect.safetensors", batch | {"logit_rows": rows} | tensors64)


def main() -> None:
    """Check the reference against Transformers, then write both folders."""
    assert check_against_transformers() < 1e-6
    make("tiny_shakti", TINY_SHAKTI, lengths=[700, 30, 130], seed=10, optimizer_steps=True)
    make("tiny_layernorm", TINY_LAYERNORM, lengths=[23, 9], seed=20, optimizer_steps=False)


if __name__ == "__main__":
    main()
