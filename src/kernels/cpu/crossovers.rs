//! Where one way of computing ends and the next begins, with what was measured; `cargo bench --bench kernels -- crossover` measures again.
//!
//! **Products of blocks**, `[m][1536] x [3072][1536]`, one thread of an AMD EPYC (Zen 4), 2026-11-25, microseconds; m <= 3 in the
//! blocks, from 4 on through panels and tiles of 4 (so 4 stands for any fewer through a panel):
//!
//! | level  | m | Q4_0 | Q4_K | Q5_0 | Q6_K | Q8_0 | IQ4_XS | F16 |
//! |--------|---|------|------|------|------|------|--------|------|
//! | avx512 | 1 | 114  | 126  | 165  | 175  | 275  | 218    | 239  |
//! |        | 2 | 151  | 158  | 210  | 206  | 318  | 281    | 287  |
//! |        | 3 | 186  | 190  | 230  | 247  | 395  | 347    | 387  |
//! |        | 4 | 213  | 216  | 241  | 275  | 367  | 335    | 968  |
//! |        | 5 | 320  | 328  | 349  | 408  | 555  | 519    | 975  |
//! | avx2   | 3 | 220  | 226  | 275  | 299  | 395  | 448    | 387  |
//! |        | 4 | 261  | 292  | 297  | 355  | 460  | 414    | 1005 |
//!
//! Three tokens are up to 1.2 times as fast in the blocks, or (8-bit formats) up to 1.08 times as slow: one number serves all. In f32
//! (F16 here) tiles are of 6 tokens; between 3 and 6 doing without would pay, but the activations are packed for the tiles.
//!
//! **Attention**, 512 keys, the same thread, GMAC/s by query rows of a kv head; the first line from the cache, by dot products, the second
//! with keys transposed:
//!
//! | heads/kv heads, head_dim | 8-9         | 12-14       | 16-21       | 24-28       |
//! |--------------------------|-------------|-------------|-------------|-------------|
//! | 9/3, 64                  | 24.6 / 20.7 | 25.7 / 26.5 | 26.0 / 29.1 | 26.2 / 30.6 |
//! | 14/2, 64                 |             | 25.8 / 24.6 | 25.2 / 26.6 | 26.1 / 29.3 |
//! | 4/1, 256                 | 27.5 / 19.4 | 28.2 / 25.7 | 28.1 / 26.4 | 28.7 / 29.9 |
//!
//! **Sizes.** A panel of 32, 64, 128 KB on AVX-512 (Q5_0, m = 512): 158, 164, 166 GMAC/s; on AVX2 32 and 48 KB are the same.

/// Tokens from which weights go through panels and activations in tiles.
pub(crate) const PANELS_FROM: usize = 4;

/// Tokens from which [`Fine`](super::Precision::Fine) makes panels of words; below, it is exact.
pub(crate) const WORDS_FROM: usize = 16;

/// Query rows of a kv head from which attention transposes keys.
pub(crate) const TRANSPOSED_KEYS_FROM: usize = 16;
