"""Makes tests/data/blocks: raw blocks of every GGUF tensor type and the float32 values gguf-py's `dequantize` gives for them.

    python tests/reference/blocks.py

<type>.bin holds the raw blocks, <type>.f32 the values as little-endian float32, in order. The blocks are, per type: all bytes
0x00, 0xff, 0x55, 0xaa; random quants under every extreme scale (zero, -0, subnormal, largest, infinite, NaN); random quants
under ordinary scales; wholly random bytes. NaN results have no defined payload or sign: compare that both are NaN.
Infinity, -0 and subnormals are exact. gguf-py multiplies and adds in separate roundings (no fused multiply-add).
"""

import os

import gguf
import numpy as np

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "blocks")
Q = gguf.GGMLQuantizationType
EXTREME = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01, 0x3C00, 0xBC00]
# type: byte offsets of its float16 fields
HALVES = {
    Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.IQ4_NL: [0], Q.IQ4_XS: [0],
    Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208], Q.MXFP4: [],
}


def half_bytes(bits):
    return np.frombuffer(np.array([bits], dtype="<u2").tobytes(), dtype=np.uint8)


def blocks(kind, rng):
    values, size = gguf.GGML_QUANT_SIZES[kind]
    count = 240 if values == 32 else 48
    out = [np.full(size, b, dtype=np.uint8) for b in (0x00, 0xFF, 0x55, 0xAA)]
    for bits in EXTREME:
        for at in HALVES[kind]:
            block = ordinary(kind, size, rng)
            block[at : at + 2] = half_bytes(bits)
            out.append(block)
    if kind == Q.MXFP4:  # one exponent byte: all its 256 values would be too many, so the ends and the middle
        for e in [0, 1, 2, 3, 126, 127, 128, 129, 252, 253, 254, 255]:
            block = rng.integers(0, 256, size, dtype=np.uint8)
            block[0] = e
            out.append(block)
    while len(out) < count:
        out.append(ordinary(kind, size, rng) if len(out) % 2 else rng.integers(0, 256, size, dtype=np.uint8))
    return np.stack(out)


def ordinary(kind, size, rng):
    block = rng.integers(0, 256, size, dtype=np.uint8)
    for at in HALVES[kind]:
        block[at : at + 2] = np.frombuffer(np.float16(rng.normal() * 0.01).tobytes(), dtype=np.uint8)
    return block


def words(kind, rng):
    """F16 and BF16: 16-bit words; all sign/exponent patterns with three mantissas, then random ones."""
    top, low = (6, 10) if kind == Q.F16 else (9, 7)
    heads = np.arange(1 << top, dtype=np.uint32) << low
    mantissas = np.array([0, 1, (1 << low) - 1], dtype=np.uint32)
    grid = (heads[:, None] | mantissas[None, :]).ravel()
    return np.concatenate([grid, rng.integers(0, 1 << 16, 512)]).astype("<u2").view(np.uint8)


def main():
    os.makedirs(OUT, exist_ok=True)
    total = 0
    for kind in [Q.F16, Q.BF16, *HALVES]:
        rng = np.random.default_rng(int(kind) + 1)
        raw = words(kind, rng) if kind in (Q.F16, Q.BF16) else blocks(kind, rng)
        with np.errstate(all="ignore"):
            source = raw.view(np.float16) if kind == Q.F16 else raw
            values = gguf.dequantize(source, kind).astype("<f4").ravel()
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        assert values.size == raw.size // size * elements
        raw.tofile(os.path.join(OUT, f"{kind.name.lower()}.bin"))
        values.tofile(os.path.join(OUT, f"{kind.name.lower()}.f32"))
        total += raw.size + values.nbytes
        print(f"{kind.name:7} {raw.size // size:5} blocks  NaN {np.isnan(values).sum():5}  inf {np.isinf(values).sum():5}")
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
