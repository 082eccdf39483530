//! Calls that open files, compute for long, or write files.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};

use graft::capi::adapter::*;
use graft::capi::facts::{graft_memory_plan, graft_plan_memory};
use graft::capi::generate::graft_text;
use graft::capi::mix::*;
use graft::capi::model::*;

use super::calls::{call, made, zeroed};
use super::data::{self, NAMES, PATHS, TEXTS};
use super::pool::{Kind, release};
use super::session_calls::{adapters, mutate, scratch, weights};
use super::world::{Out, Sized, Text, World};

unsafe extern "C" fn progress(share: f32, world: *mut c_void) -> i32 {
    assert!((0.0..=1.0).contains(&share), "a share of {share}");
    // SAFETY: a world that was given as `user_data`.
    unsafe { World::called_back(world) }
}

pub fn perhaps(w: &World) -> graft_progress_callback {
    if w.below(2) == 0 { None } else { Some(progress) }
}

fn path(w: &World) -> Text {
    let paths: Vec<&[u8]> = PATHS.iter().map(Vec::as_slice).collect();
    w.text(&paths)
}

fn model_options(w: &World, tokenizer: &Text) -> Sized<graft_model_options> {
    let options = graft_model_options {
        struct_size: 0,
        threads: if w.rarely() { w.one(&[2, 1025, u32::MAX]) } else { 1 },
        load_mode: if w.rarely() {
            w.one(&[-1, 2])
        } else {
            i32::from(w.byte() % 2)
        },
        team: w.maybe(Kind::Team),
        tokenizer: if w.rarely() { tokenizer.at() } else { null() },
        tokenizer_len: tokenizer.len,
        progress: perhaps(w),
        progress_user_data: w.user_data(),
        device: if w.rarely() { w.one(&[-1, 2, 3]) } else { w.one(&[0, 1]) },
        device_index: w.one(&[-1, 0, 1, -2, i32::MAX]),
        gpu_layers: if w.rarely() {
            w.one(&[-2, i32::MIN])
        } else {
            w.one(&[-1, 0, 1, i32::MAX])
        },
        reserved: 0,
    };
    w.options_since(options, std::mem::offset_of!(graft_model_options, device))
}

pub fn model_open(w: &World) {
    let (path, tokenizer) = (path(w), path(w));
    let mut options = model_options(w, &tokenizer);
    let options = options.options_at(w);
    let mut model = Out::new(null_mut());
    let ok = call!(w, graft_model_open(path.at(), path.len, options, model.at(w)));
    made(w, Kind::Model, model.get(ok), Vec::new());
}

pub fn plan_memory(w: &World) {
    let path = path(w);
    let mut plan = w.facts(zeroed::<graft_memory_plan>());
    let ok = call!(w, graft_plan_memory(path.at(), path.len, null(), plan.at(w)));
    assert!(!ok || plan.value().weights > 0);
}

pub fn model_open_fd(w: &World) {
    let file = File::open(data::tiny("llama-tied-q8_0").join("model.gguf")).expect("the model");
    let fd = if w.rarely() {
        w.one(&[-1, 1 << 20, i32::MIN])
    } else {
        file.as_raw_fd()
    };
    let (offset, len, tokenizer) = (w.number(3), w.number(2), path(w));
    let mut options = model_options(w, &tokenizer);
    let options = options.options_at(w);
    let mut model = Out::new(null_mut());
    let ok = call!(w, graft_model_open_fd(fd, offset, len, options, model.at(w)));
    made(w, Kind::Model, model.get(ok), Vec::new());
}

pub fn model_open_memory(w: &World) {
    let mut bytes = data::MODEL.clone();
    mutate(w, &mut bytes);
    let tokenizer = path(w);
    let mut options = model_options(w, &tokenizer);
    let options = options.options_at(w);
    let mut model = Out::new(null_mut());
    let ok = if w.below(4) == 3 {
        let bytes = &*data::MODEL;
        let at = w.start(bytes.as_ptr(), bytes.len()).cast();
        call!(
            w,
            graft_model_open_memory(at, bytes.len(), None, null_mut(), options, model.at(w))
        )
    } else {
        let (at, len, user) = w.pool.lend(bytes);
        call!(
            w,
            graft_model_open_memory(at, len, Some(release), user, options, model.at(w))
        )
    };
    made(w, Kind::Model, model.get(ok), Vec::new());
}

pub fn adapter_options(w: &World) -> Sized<graft_adapter_options> {
    w.options(graft_adapter_options {
        struct_size: 0,
        task_id: if w.rarely() { w.one(&[0, 1, -2, i64::MAX]) } else { -1 },
    })
}

pub fn adapter_open(w: &World) {
    let (model, path) = (w.handle::<graft_model>(Kind::Model), path(w));
    let mut options = adapter_options(w);
    let options = options.options_at(w);
    let mut adapter = Out::new(null_mut());
    let ok = call!(
        w,
        graft_adapter_open(model, path.at(), path.len, options, adapter.at(w))
    );
    made(w, Kind::Adapter, adapter.get(ok), Vec::new());
}

pub fn adapter_open_memory(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let [mut config, mut tensors] = data::ADAPTER.clone();
    mutate(w, &mut config);
    mutate(w, &mut tensors);
    let mut options = adapter_options(w);
    let options = options.options_at(w);
    let mut adapter = Out::new(null_mut());
    let config_at = w.start(config.as_ptr(), config.len()).cast();
    let (tensors_at, n) = (w.start(tensors.as_ptr(), tensors.len()).cast(), tensors.len());
    let ok = call!(
        w,
        graft_adapter_open_memory(model, config_at, config.len(), tensors_at, n, options, adapter.at(w))
    );
    made(w, Kind::Adapter, adapter.get(ok), Vec::new());
}

fn merge_options(w: &World, format: &Text, text: &Text) -> Sized<graft_merge_options> {
    w.options(graft_merge_options {
        struct_size: 0,
        reserved: 0,
        format: if w.below(2) == 0 { null() } else { format.at() },
        format_len: format.len,
        within: if w.below(16) < 15 { 0.0 } else { f64::from(w.float()) },
        text: text.at(),
        text_len: text.len,
        plain: i32::from(w.byte() < 240),
        progress: perhaps(w),
        progress_user_data: w.user_data(),
        cancel: w.maybe(Kind::Cancel),
    })
}

pub fn merge(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let ((list, values), format, text) = (adapters(w), w.text(NAMES), w.text(TEXTS));
    let mut options = merge_options(w, &format, &text);
    let options = options.options_at(w);
    let mut merged = Out::new(null_mut());
    let (at, weights) = (w.start(list.as_ptr(), list.len()), weights(w, &values));
    let ok = call!(w, graft_merge(model, at, weights, list.len(), options, merged.at(w)));
    made(w, Kind::Model, merged.get(ok), Vec::new());
}

pub fn merge_to(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let ((list, values), format, text) = (adapters(w), w.text(NAMES), w.text(TEXTS));
    let mut options = merge_options(w, &format, &text);
    let options = options.options_at(w);
    let to = scratch(w, "merged.gguf");
    let (at, weights) = (w.start(list.as_ptr(), list.len()), weights(w, &values));
    call!(
        w,
        graft_merge_to(model, at, weights, list.len(), options, to.as_ptr().cast(), to.len())
    );
}

pub fn combine(w: &World) {
    let paths: Vec<_> = (0..w.below(4)).map(|_| path(w)).collect();
    let folders: Vec<_> = paths
        .iter()
        .map(|p| graft_text {
            data: p.at(),
            len: p.len,
        })
        .collect();
    let (values, kind): (Vec<f32>, _) = (paths.iter().map(|_| w.float()).collect(), w.text(NAMES));
    let mut options = w.options(graft_combine_options {
        struct_size: 0,
        kind: if w.below(3) == 0 { null() } else { kind.at() },
        kind_len: kind.len,
        density: if w.below(2) == 0 { 0.0 } else { f64::from(w.float()) },
        svd_clamp: if w.below(4) < 3 { 0.0 } else { f64::from(w.float()) },
        svd_rank: w.one(&[0, 2, 1, u32::MAX]),
        majority_by_count: i32::from(w.byte() % 2),
        seed: w.number(256),
        progress: perhaps(w),
        progress_user_data: w.user_data(),
    });
    let options = options.options_at(w);
    let to = scratch(w, "combined");
    let (at, weights) = (w.start(folders.as_ptr(), folders.len()), weights(w, &values));
    call!(
        w,
        graft_combine(at, weights, folders.len(), options, to.as_ptr().cast(), to.len())
    );
}

pub fn export_lora(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let (adapter, format, to) = (path(w), w.text(NAMES), scratch(w, "lora.gguf"));
    let (format_at, to_at) = (format.at(), to.as_ptr().cast());
    call!(
        w,
        graft_export_lora(model, adapter.at(), adapter.len, format_at, format.len, to_at, to.len())
    );
}

pub fn to_lora(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let (adapter, to) = (path(w), scratch(w, "lora"));
    let mut options = adapter_options(w);
    let options = options.options_at(w);
    let (rank, energy) = (w.one(&[1, 0, 4, u32::MAX]), f64::from(w.float()));
    let to_at = to.as_ptr().cast();
    call!(
        w,
        graft_to_lora(model, adapter.at(), adapter.len, options, rank, energy, to_at, to.len())
    );
}
