//! What waits to be launched, and graphs of what comes again.
//!
//! Kernels, copies on the device and fills wait here until something goes up or comes down, or somebody waits; then all of them are given to
//! the driver, in their order. A token's calls are those of the last token (its position is a number in the device's memory), so that they come
//! again as one list, whose second appearance becomes a graph: from then on a token is one call of the driver. Nothing has to be told to a
//! graph: a list that differs in anything, an address, an adapter, a shape, is another list.
//!
//! Neighbours that one kernel can do become one on their way in ([`fused`]): it writes all that they would have written.

use std::ffi::c_void;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr::null_mut;
use std::sync::PoisonError;
use std::thread::{self, ThreadId};

use super::Gpu;
use super::driver::{Address, Handle};
use crate::error::Result;

/// Arguments of a kernel at most.
pub(super) const ARGS: usize = 24;
/// Calls that wait at most.
const MOST: usize = 4096;
/// Calls from which a graph pays.
const GRAPH_FROM: usize = 8;
/// Graphs that are kept.
const GRAPHS: usize = 16;
/// Lists that were seen once, by their hashes.
const SEEN: usize = 64;

/// A call that waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Call {
    /// A kernel, or 0: a copy (to, from, bytes) on a grid of 0, a fill (at, byte, bytes) on one of 1.
    pub function: Handle,
    pub grid: [u32; 3],
    pub threads: u32,
    pub words: [u64; ARGS],
}

impl Call {
    fn new(function: Handle, grid: [u32; 3], threads: u32, words: &[u64]) -> Self {
        let mut all = [0; ARGS];
        all[..words.len()].copy_from_slice(words);
        Call {
            function,
            grid,
            threads,
            words: all,
        }
    }

    fn memory(grid: u32, words: [u64; 3]) -> Self {
        Call::new(0, [grid; 3], 0, &words)
    }
}

/// What was given to the driver.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Calls one by one.
    pub calls: u64,
    /// Graphs that were made.
    pub made: u64,
    /// Graphs that were launched.
    pub graphs: u64,
}

/// A list that came again.
struct Graph {
    hash: u64,
    calls: Vec<Call>,
    exec: Handle,
    used: u64,
}

#[derive(Default)]
pub(super) struct Queue {
    calls: Vec<Call>,
    /// Whose they are.
    threads: Vec<ThreadId>,
    graphs: Vec<Graph>,
    /// Lists that were seen once, by their hashes.
    seen: Vec<u64>,
    clock: u64,
    /// A stream on which nothing runs: calls go there to become a graph.
    recorder: Handle,
    launched: Launched,
}

impl Gpu {
    /// Puts a call behind those that wait.
    ///
    /// # Errors
    /// Where too many wait: those of [`Gpu::flush`].
    pub(super) fn push(&self, call: Call) -> Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match fused(&self.known, &queue.calls, &call) {
            Some((n, one)) => {
                let left = queue.calls.len() - n;
                queue.calls.truncate(left);
                queue.calls.push(one);
            }
            None => queue.calls.push(call),
        }
        let me = thread::current().id();
        if !queue.threads.contains(&me) {
            queue.threads.push(me);
        }
        match queue.calls.len() {
            MOST.. => self.flush_queue(&mut queue),
            _ => Ok(()),
        }
    }

    /// Copies on the device; the ranges do not overlap.
    ///
    /// # Errors
    /// As [`Gpu::push`].
    pub fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        if bytes == 0 || to == from {
            return Ok(());
        }
        self.push(Call::memory(0, [to, from, bytes as u64]))
    }

    /// Makes bytes zero.
    ///
    /// # Errors
    /// As [`Gpu::push`].
    pub fn zero(&self, at: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.push(Call::memory(1, [at, 0, bytes as u64]))
    }

    /// Gives the driver all that waits.
    ///
    /// # Errors
    /// What the driver says, also of what ran before; it is kept for those whose calls were there too. Nothing waits any more.
    pub fn flush(&self) -> Result<()> {
        self.flush_queue(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was given to the driver.
    pub fn launched(&self) -> Launched {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).launched
    }

    fn flush_queue(&self, queue: &mut Queue) -> Result<()> {
        if queue.calls.is_empty() {
            return Ok(());
        }
        let calls = std::mem::take(&mut queue.calls);
        let done = self.bind().and_then(|()| self.give(queue, &calls));
        queue.calls = calls;
        queue.calls.clear();
        // Whoever had something there has lost it, also those who are not here.
        for thread in queue.threads.drain(..) {
            if let Err(e) = &done {
                self.fault(thread, e.again());
            }
        }
        done
    }

    /// Gives the driver `calls`, one by one or as a graph.
    fn give(&self, queue: &mut Queue, calls: &[Call]) -> Result<()> {
        if calls.len() >= GRAPH_FROM {
            let mut hasher = DefaultHasher::new();
            calls.hash(&mut hasher);
            let hash = hasher.finish();
            queue.clock += 1;
            let clock = queue.clock;
            let same = |g: &&mut Graph| g.hash == hash && g.calls == calls;
            if let Some(graph) = queue.graphs.iter_mut().find(same) {
                graph.used = clock;
                queue.launched.graphs += 1;
                // SAFETY: a graph of calls that are the same as now, and so as sound.
                let code = unsafe { (self.driver.graph_launch)(graph.exec, self.stream) };
                return self.driver.check("cuGraphLaunch", code);
            }
            match queue.seen.iter().position(|seen| *seen == hash) {
                Some(i) => {
                    queue.seen.swap_remove(i);
                    let exec = self.record(queue, calls)?;
                    if queue.graphs.len() >= GRAPHS {
                        let oldest = (0..GRAPHS).min_by_key(|i| queue.graphs[*i].used);
                        let graph = queue.graphs.swap_remove(oldest.unwrap_or(0));
                        self.end_graph(graph.exec);
                    }
                    queue.launched.made += 1;
                    queue.graphs.push(Graph {
                        hash,
                        calls: calls.to_vec(),
                        exec,
                        used: clock,
                    });
                    return self.give(queue, calls);
                }
                None => {
                    if queue.seen.len() >= SEEN {
                        queue.seen.remove(0);
                    }
                    queue.seen.push(hash);
                }
            }
        }
        queue.launched.calls += calls.len() as u64;
        calls.iter().try_for_each(|call| self.issue(call, self.stream))
    }

    /// A graph of `calls`.
    fn record(&self, queue: &mut Queue, calls: &[Call]) -> Result<Handle> {
        // SAFETY: handles are written to what lives, and ended once. 2: calls of other threads to other streams are nothing to it.
        unsafe {
            if queue.recorder == 0 {
                let code = (self.driver.stream_create)(&mut queue.recorder, 1);
                self.driver.check("cuStreamCreate", code)?;
            }
            let stream = queue.recorder;
            self.driver
                .check("cuStreamBeginCapture", (self.driver.capture_begin)(stream, 2))?;
            let issued = calls.iter().try_for_each(|call| self.issue(call, stream));
            let (mut graph, mut exec) = (0, 0);
            let ended = self
                .driver
                .check("cuStreamEndCapture", (self.driver.capture_end)(stream, &mut graph));
            let made = issued.and(ended).and_then(|()| {
                let code = (self.driver.graph_instantiate)(&mut exec, graph, 0);
                self.driver.check("cuGraphInstantiate", code)
            });
            if graph != 0 {
                (self.driver.graph_destroy)(graph);
            }
            made.map(|()| exec)
        }
    }

    /// Gives `call` to `stream`.
    fn issue(&self, call: &Call, stream: Handle) -> Result<()> {
        let mut words = call.words;
        let [a, b, n, ..] = words;
        // SAFETY: a function of a module that lives, with as many arguments as it has or more, of its sizes or more (little-endian); they live
        // until it returns. What is read and written on the device is the part of those who made the call.
        unsafe {
            match (call.function, call.grid[0]) {
                (0, 0) => {
                    let code = (self.driver.on_device)(a, b, n as usize, stream);
                    self.driver.check("cuMemcpyDtoDAsync", code)
                }
                (0, _) => {
                    let code = (self.driver.fill)(a, b as u8, n as usize, stream);
                    self.driver.check("cuMemsetD8Async", code)
                }
                (function, _) => {
                    let mut pointers: [*mut c_void; ARGS] = words.each_mut().map(|word| (word as *mut u64).cast());
                    let [x, y, z] = call.grid;
                    let args = pointers.as_mut_ptr();
                    let threads = call.threads;
                    let code = (self.driver.launch)(function, x, y, z, threads, 1, 1, 0, stream, args, null_mut());
                    let name = || self.name_of(function);
                    self.driver
                        .check("cuLaunchKernel", code)
                        .map_err(|e| e.expected(format_args!("{} to run", name())))
                }
            }
        }
    }

    fn end_graph(&self, exec: Handle) {
        // SAFETY: made by `record`, ended once; the driver lets it end its run.
        unsafe { (self.driver.graph_end)(exec) };
    }

    /// Forgets what waits, and all graphs. The stream has come to rest.
    pub(super) fn end_queue(&mut self) {
        let queue = std::mem::take(self.queue.get_mut().unwrap_or_else(PoisonError::into_inner));
        queue.graphs.iter().for_each(|graph| self.end_graph(graph.exec));
        if queue.recorder != 0 {
            // SAFETY: made by `record`, ended once.
            unsafe { (self.driver.stream_destroy)(queue.recorder) };
        }
    }
}

macro_rules! known {
    ($($field:ident: $name:literal),* $(,)?) => {
        /// Kernels that can stand for neighbours, and those neighbours.
        #[derive(Default)]
        pub(super) struct Known {
            $($field: Handle),*
        }

        impl Known {
            /// All of them, by their names.
            pub fn find(find: impl Fn(&str) -> Result<Handle>) -> Result<Self> {
                Ok(Known { $($field: find($name)?),* })
            }
        }
    };
}

known! {
    add: "add",
    add_norm_pack: "add_norm_pack_i",
    add_rms_norm: "add_rms_norm",
    attend_join: "attend_join",
    attend_join_pack: "attend_join_i",
    gated_gelu: "gated_gelu",
    gated_pack_gelu: "gated_pack_i_gelu",
    gated_pack_silu: "gated_pack_i_silu",
    gated_silu: "gated_silu",
    kv_write_f: "kv_write_f",
    kv_write_h: "kv_write_h",
    norm_pack: "norm_pack_i",
    pack: "pack_i",
    rms_norm: "rms_norm",
    rope: "rope",
    rope_kv_f: "rope_kv_f",
    rope_kv_h: "rope_kv_h",
}

/// A kernel for `call` and the last ones of `before`, and how many of those it stands for. `docs/cuda.md` has their arguments.
fn fused(known: &Known, before: &[Call], call: &Call) -> Option<(usize, Call)> {
    let last = before.last()?;
    let (w, v) = (&call.words, &last.words);
    let k = known;
    match call.function {
        f if f == k.pack => {
            let [x, m, cols, acts, ..] = *w;
            let gated = [(k.gated_silu, k.gated_pack_silu), (k.gated_gelu, k.gated_pack_gelu)];
            if let Some((_, one)) = gated.iter().find(|(g, _)| *g == last.function) {
                let same = v[0] == x && v[2] == m * cols;
                return same.then(|| {
                    (
                        1,
                        Call::new(*one, last.grid, last.threads, &[v[0], v[1], m, cols, acts]),
                    )
                });
            }
            let [part, out, rows, heads, head_dim, splits, ..] = *v;
            let same = last.function == k.attend_join && (out, rows, heads * head_dim) == (x, m, cols);
            (same && head_dim % 32 == 0).then(|| {
                let words = [part, out, rows, heads, head_dim, splits, acts];
                (1, Call::new(k.attend_join_pack, last.grid, last.threads, &words))
            })
        }
        f if last.function == k.add && f == k.norm_pack => {
            let [x, weights, eps, out, n, m, acts, ..] = *w;
            (v[0] == x && v[2] == m * n).then(|| {
                let words = [x, v[1], weights, eps, out, n, m, acts];
                (1, Call::new(k.add_norm_pack, call.grid, call.threads, &words))
            })
        }
        f if last.function == k.add && f == k.rms_norm => {
            let [x, weights, eps, out, n, ..] = *w;
            (v[0] == x && v[2] == u64::from(call.grid[0]) * n).then(|| {
                let words = [x, v[1], weights, eps, out, n];
                (1, Call::new(k.add_rms_norm, call.grid, call.threads, &words))
            })
        }
        f if f == k.kv_write_h || f == k.kv_write_f => {
            let [rope_q, rope_k, write_k] = before.last_chunk()?;
            let rotate = rope_q.function == k.rope && rope_k.function == k.rope && write_k.function == f;
            let ([q, m, heads, head_dim, ..], [keys, _, kv_heads, ..]) = (rope_q.words, rope_k.words);
            // [x, width, m, pos_at, pos, capacity, ring]
            let (of_k, of_v) = (&write_k.words, w);
            let same = rope_q.words[3..8] == rope_k.words[3..8]
                && rope_k.words[1] == m
                && of_k[0] == keys
                && of_k[1] == kv_heads * head_dim
                && of_k[2] == m
                && of_v[1..6] == of_k[1..6]
                && head_dim % 2 == 0;
            (rotate && same).then(|| {
                let [half, interleaved, cos, sin] = [4, 5, 6, 7].map(|i| rope_q.words[i]);
                let [at, pos, capacity, ring] = [3, 4, 5, 6].map(|i| of_k[i]);
                let words = [
                    q,
                    keys,
                    of_v[0],
                    m,
                    heads,
                    kv_heads,
                    head_dim,
                    half,
                    interleaved,
                    cos,
                    sin,
                    at,
                    pos,
                    capacity,
                    ring,
                    of_v[6],
                ];
                let numbers = m * (heads + 2 * kv_heads) * (head_dim / 2);
                let one = if f == k.kv_write_h { k.rope_kv_h } else { k.rope_kv_f };
                (3, Call::new(one, [numbers.div_ceil(256) as u32, 1, 1], 256, &words))
            })
        }
        _ => None,
    }
}
