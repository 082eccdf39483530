//! A GGUF file: opening, every metadata getter, what the model or adapter is, and the blocks of its tensors.
#![no_main]

use graft::adapter::AdapterFile;
use graft::format::{Gguf, Metadata};
use graft::model::{Spec, arch_of};
use graft_fuzz::check;
use libfuzzer_sys::fuzz_target;

/// Elements to dequantize at most: larger tensors take time and show nothing new.
const MOST_ELEMENTS: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    match Gguf::from_bytes(data.to_vec()) {
        Err(e) => check(&e),
        Ok(g) => {
            g.metadata()
                .iter()
                .for_each(|(key, value)| read(g.metadata(), key, &value.to_string()));
            for t in g.tensors() {
                assert_eq!(g.tensor(&t.name), Some(t));
                let bytes = g.data(t);
                if t.elements() <= MOST_ELEMENTS {
                    t.format.dequantize(bytes, &mut vec![0.0; t.elements()]);
                }
            }
            if let Err(e) = AdapterFile::of_gguf(&g) {
                check(&e);
            }
            if let Err(e) = arch_of(&g).and_then(|arch| Spec::read(arch, &g)) {
                check(&e);
            }
        }
    }
});

fn read(m: &Metadata, key: &str, shown: &str) {
    assert!(!shown.contains('\n'));
    let errors = [
        m.usize(key).err(),
        m.f32(key).err(),
        m.bool(key).err(),
        m.str(key).err(),
        m.strs(key).err(),
        m.ints(key).err(),
        m.f32s(key).err(),
        m.bools(key).err(),
    ];
    errors.iter().flatten().for_each(check);
}
