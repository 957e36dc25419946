"""Write golden/blocks: the bytes ggml's reference quantizers give for rows of numbers, and what they dequantize to.

    python make_block_goldens.py path/to/libggml-base.so

The library must be built for plain x86-64 without contraction of multiply and add (`-O2 -march=x86-64
-ffp-contract=off`, SIMD options off, shared): with FMA the K formats' searches take other turns.

`input.safetensors` holds `rows` [R, 256] F32; `names.json` says what each row is. `FORMAT.safetensors` holds `bytes`
[R, bytes per row] U8 and `dequantized` [16, 256] F32 (of the first 16 rows; NaN or infinite where a scale is beyond f16).
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np
from safetensors.numpy import save_file
from shakti_reference import GOLDEN, write_json

WIDTH = 256
# Elements and bytes of a block.
FORMATS = {
    "q8_0": (32, 34), "q5_0": (32, 22), "q5_1": (32, 24), "q4_0": (32, 18), "q4_1": (32, 20),
    "q6_K": (256, 210), "q5_K": (256, 176), "q4_K": (256, 144),
}
NUM_DEQUANTIZED = 16


def halves(limit: int) -> np.ndarray:
    """Odd multiples of 1/2 below `limit`, both signs, with +limit or -limit opening every block of 32: ties everywhere."""
    steps = np.arange(WIDTH) % (2 * limit) - limit + 0.5
    steps[::64] = limit
    steps[32::64] = -limit
    return steps


def make_rows(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Named rows of 256: the awkward ones first, then draws.

    Blocks whose largest magnitude is below 4e-37 but not 0 are left out: there the C code converts infinity to int8,
    which has no defined result.
    """
    normal = random.standard_normal
    sign = np.where(np.arange(WIDTH) % 2 == 0, 1.0, -1.0)
    one_hot = np.zeros(WIDTH)
    one_hot[[3, 40, 200]] = [1.0, -2.0, 0.5]
    outlier = 0.01 * normal(WIDTH)
    outlier[::32] = 5.0 * sign[:8]
    rows = {
        "zeros": np.zeros(WIDTH),
        "zeros of both signs": sign * 0.0,
        "constant 1": np.ones(WIDTH),
        "constant -0.7": np.full(WIDTH, -0.7),
        "normal": normal(WIDTH),
        "ties of 8 bits": halves(127),
        "ties of 4 bits": halves(8),
        "ties of 5 bits": halves(16),
        "+1 and -1, + first": sign,
        "+1 and -1, - first": -sign,
        "negative maximum": np.where(np.arange(WIDTH) % 32 == 7, -3.0, np.abs(normal(WIDTH)).clip(0, 2.5)),
        "normal * 1e7, scales of some formats beyond f16": 1e7 * normal(WIDTH),
        "normal * 1e-6, subnormal f16 scales": 1e-6 * normal(WIDTH),
        "normal * 1e-36, denormal f32 scales": 1e-36 * normal(WIDTH),
        "scales around the smallest f16": 4e-7 * normal(WIDTH) * np.repeat([0.1, 0.3, 1, 3, 10, 30, 100, 300], 32),
        "normal * 1e15": 1e15 * normal(WIDTH),
        "three numbers among zeros": one_hot,
        "outlier in every block": outlier,
        "all positive": 1.0 + random.random(WIDTH),
        "all negative": -1.0 - random.random(WIDTH),
        "f32 denormals around a 1": np.where(np.arange(WIDTH) % 32 == 9, 1.0, 1e-40 * normal(WIDTH)),
        "ramp": np.linspace(-1.0, 1.0, WIDTH),
        "integers": np.round(4 * normal(WIDTH)),
        "half the blocks zero": normal(WIDTH) * np.tile(np.repeat([0, 1], 32), 4),
        "blocks of very different size": normal(WIDTH) * np.repeat(10.0 ** np.arange(-4, 4), 32),
    }
    for i in range(6):
        rows[f"normal * 0.02, {i}"] = 0.02 * normal(WIDTH)
    for i in range(4):
        rows[f"normal + 0.5, {i}"] = 0.5 + normal(WIDTH)
    for i in range(3):
        rows[f"Laplace, {i}"] = random.laplace(0.0, 0.05, WIDTH)
    for i in range(3):
        rows[f"Student t of 3, {i}"] = random.standard_t(3, WIDTH)
    # Rare rows, found by trying seeds: in one of their blocks the last candidate of the search fits best.
    for name, seeds in [("q4_K", (95, 97, 260)), ("q5_K", (39, 342, 579))]:
        for seed in seeds:
            rows[f"last candidate of {name}, {seed}"] = np.random.default_rng(seed).random(WIDTH)
    return rows


def quantize(library: ctypes.CDLL, name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes of all rows and values of the first ones, through the library's `_ref` quantizer and its dequantizer."""
    elements, block_bytes = FORMATS[name]
    packed = np.zeros((len(rows), WIDTH // elements * block_bytes), dtype=np.uint8)
    values = np.zeros((NUM_DEQUANTIZED, WIDTH), dtype=np.float32)

    def call(function: str, source: np.ndarray, target: np.ndarray) -> None:
        getattr(library, function)(
            source.ctypes.data_as(ctypes.c_void_p), target.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(WIDTH)
        )

    for row, target in zip(rows, packed):
        call(f"quantize_row_{name}_ref", row, target)
    for source, target in zip(packed, values):
        call(f"dequantize_row_{name}", source, target)
    return {"bytes": packed, "dequantized": values}


def main() -> None:
    """Write the inputs and one file per format."""
    library = ctypes.CDLL(sys.argv[1])
    named = make_rows(np.random.default_rng(60))
    rows = np.stack([row.astype(np.float32) for row in named.values()])
    folder = GOLDEN / "blocks"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"rows": rows}, folder / "input.safetensors")
    write_json(folder / "names.json", list(named))
    for name in FORMATS:
        save_file(quantize(library, name, rows), folder / f"{name}.safetensors")


if __name__ == "__main__":
    main()
