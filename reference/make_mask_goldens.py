"""Write golden/attention_masks/block_sparse.json: the key blocks every query block sees, from the rule written out again.

The rule here is kept apart from `shakti_reference.py` on purpose (explicit numbers, lists instead of sets), and the two are
compared before anything is written.
"""

from __future__ import annotations

import json

from shakti_reference import BLOCK_SPARSE_DEFAULTS, GOLDEN, visible_blocks

U64 = 2**64


def mix(z: int) -> int:
    """SplitMix64's output function on the state z + golden gamma."""
    z = (z + 0x9E3779B97F4A7C15) % U64
    z = (z ^ z // 2**30) * 0xBF58476D1CE4E5B9 % U64
    z = (z ^ z // 2**27) * 0x94D049BB133111EB % U64
    return z ^ z // 2**31


def rule(seed: int, layer: int, kv_head: int, b: int) -> list[int]:
    """Block 0, the block itself, the 3 before it, and up to 3 drawn from 1 ... b-4; ascending."""
    if b <= 4:
        return list(range(b + 1))
    state = mix(mix(mix(mix(seed) ^ layer) ^ kv_head) ^ b)
    rest = list(range(1, b - 3))
    drawn = []
    for j in range(min(3, len(rest))):
        index = j + mix(state) * (len(rest) - j) // U64
        state = (state + 0x9E3779B97F4A7C15) % U64
        rest[j], rest[index] = rest[index], rest[j]
        drawn.append(rest[j])
    return [0, *sorted(drawn), b - 3, b - 2, b - 1, b]


def main() -> None:
    """Tables for 2 seeds x 2 layers x 2 KV heads x 40 blocks, one line per table."""
    lines = []
    for seed in (0, 42):
        for layer in (0, 1):
            for kv_head in (0, 1):
                table = [rule(seed, layer, kv_head, b) for b in range(40)]
                sparse = BLOCK_SPARSE_DEFAULTS | {"seed": seed}
                assert table == [visible_blocks(sparse, layer, kv_head, b) for b in range(40)]
                entry = {"seed": seed, "layer": layer, "kv_head": kv_head, "visible_blocks": table}
                lines.append("    " + json.dumps(entry))
    sizes = json.dumps({k: v for k, v in BLOCK_SPARSE_DEFAULTS.items() if k != "seed"})
    text = '{\n  "sizes": ' + sizes + ',\n  "tables": [\n' + ",\n".join(lines) + "\n  ]\n}\n"
    json.loads(text)
    path = GOLDEN / "attention_masks" / "block_sparse.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
