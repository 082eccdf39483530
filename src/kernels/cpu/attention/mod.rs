//! Attention: checks, the split into parts, and putting parts together. The parts themselves are the levels' business.

mod back;
pub use back::back_scratch_bytes;
// Its loop is of levels with vectors; what it takes in memory is planned everywhere.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
pub(in crate::kernels::cpu) mod part;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::crossovers::TRANSPOSED_KEYS_FROM;
use super::isa::AttentionPart;
use super::types::Out;
use super::{Attention, Chunks, Cpu, GRAIN, KvBuf, scratch};

/// Query rows times heads of a kv head in one part: enough to share the loads of a key among them.
const UNITS: usize = 96;
/// Keys of a part where the context is split.
const LEAST_KEYS: usize = 64;
const MOST_KEYS: usize = 256;
/// So many parts keep the threads of a small machine equally busy.
const ENOUGH: usize = 8;

/// How attention is cut into parts.
struct Split {
    /// Query heads of a kv head.
    group: usize,
    /// Query rows of a part.
    tile: usize,
    /// Kv heads of a part.
    together: usize,
    /// Parts of the queries and heads.
    jobs: usize,
    /// Keys of a part where they are split, and into how many.
    keys: usize,
    splits: usize,
}

impl Split {
    /// All that decides is shapes, never threads, so that results do not depend on those. Few queries: parts have all heads of some keys,
    /// which memory has side by side. Many: parts have a head, and all keys if that makes enough parts.
    fn of(a: &Attention, m: usize) -> Self {
        let seen = a.pos + m - a.visible(0).start;
        let group = a.heads / a.kv_heads;
        let tile = (UNITS / group).clamp(1, m);
        let tiles = m.div_ceil(tile);
        let together = if tile * group < TRANSPOSED_KEYS_FROM {
            a.kv_heads
        } else {
            1
        };
        let jobs = tiles * a.kv_heads / together;
        let keys = (seen.saturating_mul(jobs) / ENOUGH)
            .clamp(LEAST_KEYS, MOST_KEYS)
            .next_multiple_of(LEAST_KEYS);
        let splits = if jobs >= ENOUGH { 1 } else { seen.div_ceil(keys) };
        Split {
            group,
            tile,
            together,
            jobs,
            keys,
            splits,
        }
    }
}

impl Attention {
    /// Bytes that attention of at most `m` rows, of which the last has position `pos + m - 1`, needs for a moment: once, and in each
    /// thread. The heads must be such as the operation takes.
    pub fn scratch_bytes(&self, m: usize) -> (usize, usize) {
        let end = self.pos + m;
        // Of more rows keys are not split.
        let few = 1..=m.min(UNITS * ENOUGH);
        few.chain([m]).fold((0, 0), |(once, each), rows| {
            let pos = end - rows;
            let (more, more_each) = Attention { pos, ..self.clone() }.scratch_of(rows);
            (once.max(more), each.max(more_each))
        })
    }

    fn scratch_of(&self, m: usize) -> (usize, usize) {
        let split = Split::of(self, m);
        let units = split.tile.saturating_mul(split.group);
        let result = units.saturating_mul(split.together).saturating_mul(self.head_dim + 2);
        let part = part::buffers(units, split.together, self.head_dim);
        let part = part.iter().fold(0usize, |sum, len| sum.saturating_add(*len));
        let (once, each) = match split.splits {
            1 => (0, part.saturating_add(result)),
            splits => (result.saturating_mul(split.jobs).saturating_mul(splits), part),
        };
        (
            once.saturating_mul(size_of::<f32>()),
            each.saturating_mul(size_of::<f32>()),
        )
    }
}

impl Cpu {
    /// Writes rows `x` (`[m][width]`) at positions pos.. of the ring.
    pub fn kv_write(&self, x: &[f32], width: usize, pos: usize, capacity: usize, kv: &mut KvBuf) {
        assert!(width > 0 && x.len().is_multiple_of(width), "kv_write: input length");
        assert!(
            capacity > 0 && kv.len() >= capacity * width,
            "kv_write: cache too short"
        );
        // Rows that others of the same call would take the place of are left out: so each slot belongs to one.
        let m = x.len() / width;
        let first = m.saturating_sub(capacity);
        let rows = |write: &(dyn Fn(usize, &[f32]) + Sync)| {
            self.split(m - first, (GRAIN / width).max(1), &|rows| {
                for t in rows.map(|t| first + t) {
                    write((pos + t) % capacity, &x[t * width..][..width]);
                }
            });
        };
        match kv {
            KvBuf::F16(kv) => {
                let slots = Chunks::new(kv, width);
                // SAFETY: the level fits the CPU; equal lengths; each slot belongs to one row.
                rows(&|slot, row| unsafe { (self.isa.to_f16)(row, slots.get(slot)) });
            }
            KvBuf::F32(kv) => {
                let slots = Chunks::new(kv, width);
                // SAFETY: each slot belongs to one row.
                rows(&|slot, row| unsafe { slots.get(slot).copy_from_slice(row) });
            }
        }
    }

    /// The first numbers of the ring.
    pub fn kv_read(&self, kv: &KvBuf, out: &mut [f32]) {
        self.elements(out, |at, out| match kv {
            KvBuf::F16(kv) => kv[at..][..out.len()]
                .reinterpret_cast::<half::f16>()
                .convert_to_f32_slice(out),
            KvBuf::F32(kv) => out.copy_from_slice(&kv[at..][..out.len()]),
        });
    }

    /// Streaming-softmax attention: q `[m][heads*head_dim]` -> out the same shape; no n² buffer.
    ///
    /// The ring must still hold every key that a row sees: `capacity >= min(pos + m, window + m - 1)`.
    pub fn attention(&self, a: &Attention, q: &[f32], k: &KvBuf, v: &KvBuf, out: &mut [f32]) {
        let width = a.heads * a.head_dim;
        assert!(
            width > 0 && a.kv_heads > 0 && a.heads.is_multiple_of(a.kv_heads),
            "attention: heads"
        );
        assert!(
            q.len().is_multiple_of(width) && out.len() == q.len(),
            "attention: lengths"
        );
        let kv_len = a.capacity * a.kv_heads * a.head_dim;
        assert!(
            a.capacity > 0 && k.len() >= kv_len && v.len() >= kv_len,
            "attention: cache too short"
        );
        assert!(
            matches!((k, v), (KvBuf::F16(_), KvBuf::F16(_)) | (KvBuf::F32(_), KvBuf::F32(_))),
            "attention: K and V differ in type"
        );
        assert!(a.window != Some(0), "attention: empty window");
        let m = q.len() / width;
        if m == 0 {
            return;
        }
        let (first, last) = (a.visible(0).start, a.pos + m);
        assert!(
            last - first <= a.capacity,
            "attention: the ring has lost keys {first}..{}",
            last - a.capacity.min(last)
        );

        let Split {
            group,
            tile,
            together,
            jobs,
            keys,
            splits,
        } = Split::of(a, m);
        let unit = a.head_dim + 2;
        let out = Out::new(out, width);
        let rows_of = |t: usize| t * tile..((t + 1) * tile).min(m);
        let keys_of = |t: usize, s: usize| {
            let rows = rows_of(t);
            let seen = a.visible(rows.start).start..a.visible(rows.end - 1).end;
            if splits == 1 {
                seen
            } else {
                seen.start.max(first + s * keys)..seen.end.min(first + (s + 1) * keys)
            }
        };
        // Job j has tile t and the kv heads h .. h + together.
        let place = |job: usize| (job * together / a.kv_heads, job * together % a.kv_heads);
        let part = |job: usize, s: usize, buffer: &mut [f32]| {
            let (t, head) = place(job);
            let part = AttentionPart {
                a,
                q,
                k,
                v,
                kv_heads: head..head + together,
                rows: rows_of(t),
                keys: keys_of(t, s),
                out: buffer,
            };
            // SAFETY: the level fits the CPU; lengths, ring and types were checked above.
            unsafe { (self.isa.attention)(part) }
        };
        let len = |job: usize| together * rows_of(place(job).0).len() * group * unit;
        // Puts the parts of one job together and normalizes.
        let finish = |job: usize, parts: &[f32], stride: usize| {
            let (t, head) = place(job);
            let heads = (head..head + together).flat_map(|head| rows_of(t).map(move |row| (head, row)));
            let units = heads.flat_map(|(head, row)| (0..group).map(move |g| (head * group + g, row)));
            for (i, (head, row)) in units.enumerate() {
                // SAFETY: each (row, head) belongs to one job, which one chunk finishes.
                let out = unsafe { out.at(row, head * a.head_dim, a.head_dim) };
                merge(parts.chunks(stride).map(|p| &p[i * unit..][..unit]), out);
            }
        };
        if splits == 1 {
            self.team.run(jobs, &|job| {
                // Late rows see more keys: longest first, so that no thread is left with a long one at the end.
                let job = jobs - 1 - job;
                scratch::with_f32(len(job), |buffer| {
                    part(job, 0, buffer);
                    finish(job, buffer, len(job));
                });
            });
            return;
        }
        let stride = len(0);
        scratch::with_f32(jobs * splits * stride, |buffer| {
            let parts = Out::new(buffer, stride);
            self.team.run(jobs * splits, &|index| {
                let (job, s) = (index / splits, index % splits);
                // SAFETY: each index is one chunk.
                part(job, s, unsafe { parts.at(index, 0, len(job)) });
            });
            for job in 0..jobs {
                finish(job, &buffer[job * splits * stride..][..splits * stride], stride);
            }
        });
    }
}

/// out = sum_i exp(max_i - max) sums_i / sum_i exp(max_i - max) total_i, in the order of the parts.
fn merge<'a>(parts: impl ExactSizeIterator<Item = &'a [f32]> + Clone, out: &mut [f32]) {
    let stats = |p: &[f32]| (p[p.len() - 2], p[p.len() - 1]);
    // Not `f32::max` alone: parts without visible keys have -inf, and a NaN must stay visible in the sums.
    let max = parts.clone().map(|p| stats(p).0).fold(f32::NEG_INFINITY, f32::max);
    let weight = |p: &[f32]| {
        if stats(p).0 == max {
            1.0
        } else {
            (stats(p).0 - max).exp()
        }
    };
    let total: f32 = parts.clone().map(|p| weight(p) * stats(p).1).sum();
    for (i, p) in parts.enumerate() {
        let weight = weight(p) / total;
        for (o, s) in out.iter_mut().zip(p) {
            *o = if i == 0 { weight * s } else { *o + weight * s };
        }
    }
}
