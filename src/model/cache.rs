//! One layer's cache: rings of K and V rows.

use crate::error::Result;
use crate::kernels::Precision;

use super::backend::Backend;

/// Slots of a layer's ring: all positions, or the window and what a chunk may write before it is read.
pub fn ring_capacity(window: Option<usize>, context: usize, chunk: usize) -> usize {
    window.map_or(context, |w| context.min(w.saturating_add(chunk)))
}

/// The cache of a layer: position p is in slot p % capacity of both rings.
pub struct LayerKv<B: Backend> {
    pub(super) k: B::Kv,
    pub(super) v: B::Kv,
    pub(super) capacity: usize,
    width: usize,
}

impl<B: Backend> LayerKv<B> {
    /// Empty rings of `capacity` rows of `width`, beside the matrix that makes the keys.
    pub(super) fn new(
        backend: &B,
        near: &B::Weight,
        capacity: usize,
        width: usize,
        precision: Precision,
    ) -> Result<Self> {
        Ok(LayerKv {
            k: backend.kv(near, capacity, width, precision)?,
            v: backend.kv(near, capacity, width, precision)?,
            capacity,
            width,
        })
    }

    /// The first position whose rows are still there when positions `0..end` were written.
    pub fn first(&self, end: usize) -> usize {
        end.saturating_sub(self.capacity)
    }

    /// Appends the rows of `position` to `out`, K then V, as little-endian numbers of the cache's type.
    pub fn save(&self, backend: &B, position: usize, out: &mut Vec<u8>) {
        let at = position % self.capacity * self.width;
        backend.kv_save(&self.k, at..at + self.width, out);
        backend.kv_save(&self.v, at..at + self.width, out);
    }

    /// Takes the rows of `position` from what [`LayerKv::save`] appended.
    ///
    /// Panics if `rows` has another length.
    pub fn load(&mut self, backend: &B, position: usize, rows: &[u8]) {
        let at = position % self.capacity * self.width;
        let (k, v) = rows.split_at(rows.len() / 2);
        backend.kv_load(k, at..at + self.width, &mut self.k);
        backend.kv_load(v, at..at + self.width, &mut self.v);
    }
}
