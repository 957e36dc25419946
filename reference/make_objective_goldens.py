"""Losses of alignment objectives and their gradients, by PyTorch's automatic differentiation in float64.

    python reference/make_objective_goldens.py golden/objectives

Where TRL has the formula as a function (SimPO, ORPO) TRL is called; the others are written out as its trainers state them
(DPO, IPO, KTO, GRPO, RLOO) or as the papers do (PPO: arXiv 1707.06347, GAE: arXiv 1506.02438).
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)

BETA, SMOOTHING, GAMMA = 0.3, 0.1, 0.5


def numbers(*shape, low=-30.0, high=-2.0):
    return low + (high - low) * torch.rand(*shape)


def listed(tensor):
    return tensor.detach().tolist()


def preference():
    """Eight pairs: sums, reference sums and lengths of both sides; a loss and its gradients for each kind."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    chosen, rejected = numbers(8).requires_grad_(), numbers(8).requires_grad_()
    ref_chosen, ref_rejected = numbers(8), numbers(8)
    len_chosen, len_rejected = torch.randint(3, 20, (8,)).double(), torch.randint(3, 20, (8,)).double()
    chosen_ratio, rejected_ratio = chosen - ref_chosen, rejected - ref_rejected
    delta = chosen_ratio - rejected_ratio
    device = SimpleNamespace(device="cpu")
    cpo = SimpleNamespace(alpha=0.0, beta=BETA, loss_type="simpo", simpo_gamma=GAMMA, label_smoothing=SMOOTHING, accelerator=device)
    # TRL's own function rounds to float32.
    float_ = torch.Tensor.float
    torch.Tensor.float = lambda self: self
    orpo = ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=BETA, accelerator=device), chosen / len_chosen, rejected / len_rejected)
    torch.Tensor.float = float_
    z = 0.4
    losses = {
        "sigmoid": -F.logsigmoid(BETA * delta),
        "sigmoid_smoothed": -F.logsigmoid(BETA * delta) * (1 - SMOOTHING) - F.logsigmoid(-BETA * delta) * SMOOTHING,
        "ipo": (chosen_ratio / len_chosen - rejected_ratio / len_rejected - 1 / (2 * BETA)) ** 2,
        "simpo": CPOTrainer.cpo_loss(cpo, chosen / len_chosen, rejected / len_rejected)[0],
        "orpo": -chosen / len_chosen - orpo[0],
        "kto_good": 1.5 * (1 - torch.sigmoid(BETA * (chosen_ratio - z))),
        "kto_bad": 0.7 * (1 - torch.sigmoid(BETA * (z - chosen_ratio))),
        "reward": -F.logsigmoid(chosen - rejected - 0.25),
    }
    out = {}
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss.sum(), (chosen, rejected), retain_graph=True, allow_unused=True)
        out[name] = {
            "loss": listed(loss),
            "gradients": [listed(g) if g is not None else [0.0] * 8 for g in gradients],
        }
    return {
        "beta": BETA, "label_smoothing": SMOOTHING, "simpo_gamma": GAMMA, "kto_z": z,
        "chosen": listed(chosen), "rejected": listed(rejected),
        "ref_chosen": listed(ref_chosen), "ref_rejected": listed(ref_rejected),
        "len_chosen": listed(len_chosen), "len_rejected": listed(len_rejected),
        "losses": out,
    }


def policy():
    """Tokens of four samples: PPO with clipped values, and GRPO with the k3 estimate of the divergence."""
    lengths = [5, 1, 7, 3]
    n = sum(lengths)
    old = numbers(n, low=-4.0, high=-0.1)
    new = (old + 0.4 * torch.randn(n)).requires_grad_()
    reference = old + 0.3 * torch.randn(n)
    values_old = torch.randn(n)
    values = (values_old + 0.4 * torch.randn(n)).requires_grad_()
    scores = torch.tensor([1.0, -0.5, 0.25, 2.0])
    kl_coef, gamma, lam, clip, value_clip, value_coef = 0.05, 0.98, 0.9, 0.2, 0.2, 0.1
    rewards = -kl_coef * (old - reference)
    ends = torch.tensor(lengths).cumsum(0) - 1
    rewards[ends] += scores
    advantages, start = torch.zeros(n), 0
    for length in lengths:
        last = 0.0
        for t in reversed(range(start, start + length)):
            next_value = values_old[t + 1] if t + 1 < start + length else 0.0
            delta = rewards[t] + gamma * next_value - values_old[t]
            last = delta + gamma * lam * last
            advantages[t] = last
        start += length
    returns = advantages + values_old
    white = (advantages - advantages.mean()) / (advantages.var(unbiased=False) + 1e-8).sqrt()
    ratio = torch.exp(new - old)
    pg = torch.max(-white * ratio, -white * ratio.clamp(1 - clip, 1 + clip)).mean()
    clipped = torch.min(torch.max(values, values_old - value_clip), values_old + value_clip)
    vf = 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2).mean()
    ppo = pg + value_coef * vf
    g_new, g_values = torch.autograd.grad(ppo, (new, values))

    # GRPO: one group of four, each sample's tokens averaged, then the samples.
    mean, std = scores.mean(), scores.std()
    group = (scores - mean) / (std + 1e-4)
    leave_one_out = scores - (scores.sum() - scores) / 3
    per_token = group.repeat_interleave(torch.tensor(lengths))
    beta = 0.04
    ratio = torch.exp(new - old)
    k3 = torch.exp(reference - new) - (reference - new) - 1
    token_loss = -torch.min(ratio * per_token, ratio.clamp(1 - clip, 1 + clip) * per_token) + beta * k3
    parts = torch.split(token_loss, lengths)
    grpo = torch.stack([part.mean() for part in parts]).mean()
    (g_grpo,) = torch.autograd.grad(grpo, new)
    return {
        "lengths": lengths, "old": listed(old), "new": listed(new), "reference": listed(reference),
        "values_old": listed(values_old), "values": listed(values), "scores": listed(scores),
        "ppo": {
            "kl_coef": kl_coef, "gamma": gamma, "lambda": lam, "clip": clip, "value_clip": value_clip,
            "value_coef": value_coef, "advantages": listed(advantages), "returns": listed(returns),
            "whitened": listed(white), "loss": ppo.item(), "log_prob_gradients": listed(g_new),
            "value_gradients": listed(g_values),
        },
        "grpo": {
            "beta": beta, "clip": clip, "advantages": listed(group), "leave_one_out": listed(leave_one_out),
            "loss": grpo.item(), "log_prob_gradients": listed(g_grpo),
        },
    }


def distillation():
    """Three rows of logits against the likeliest tokens of a teacher, the rest of the vocabulary as one token."""
    rows, vocabulary, k = 3, 9, 3
    logits = (2 * torch.randn(rows, vocabulary)).requires_grad_()
    teacher = F.log_softmax(2 * torch.randn(rows, vocabulary), dim=-1)
    log_q, ids = teacher.topk(k, dim=-1)
    q = torch.cat([log_q.exp(), 1 - log_q.exp().sum(-1, keepdim=True)], -1)
    p = F.softmax(logits, -1).gather(1, ids)
    p = torch.cat([p, 1 - p.sum(-1, keepdim=True)], -1)
    out = {}
    for name, loss in {"forward": (q * (q / p).log()).sum(-1), "reverse": (p * (p / q).log()).sum(-1)}.items():
        (gradient,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
        out[name] = {"loss": listed(loss), "gradient": listed(gradient)}
    return {"logits": listed(logits), "ids": ids.tolist(), "log_q": listed(log_q), **out}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in {"preference": preference, "policy": policy, "distillation": distillation}.items():
        (folder / f"{name}.json").write_text(json.dumps(make(), indent=1) + "\n")


if __name__ == "__main__":
    main()
