//! Writes GGUF files from the specification, and notes where each number stands.

/// A metadata value with its type id.
#[derive(Clone)]
pub enum Val {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(u8),
    Str(Vec<u8>),
    /// Type id of the elements, and they.
    Array(u32, Vec<Val>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Val {
    pub fn str(text: &str) -> Val {
        Val::Str(text.into())
    }

    fn id(&self) -> u32 {
        match self {
            Val::U8(_) => 0,
            Val::I8(_) => 1,
            Val::U16(_) => 2,
            Val::I16(_) => 3,
            Val::U32(_) => 4,
            Val::I32(_) => 5,
            Val::F32(_) => 6,
            Val::Bool(_) => 7,
            Val::Str(_) => 8,
            Val::Array(..) => 9,
            Val::U64(_) => 10,
            Val::I64(_) => 11,
            Val::F64(_) => 12,
        }
    }
}

/// A tensor to write: name, dims, ggml type id, data.
pub struct Tensor {
    pub name: Vec<u8>,
    pub dims: Vec<u64>,
    pub id: u32,
    pub data: Vec<u8>,
}

/// A number in the file that a reader has to trust or check.
#[derive(Clone, Debug)]
pub struct Mark {
    pub at: usize,
    /// Bytes of the number: 4 or 8.
    pub width: usize,
    pub what: String,
}

/// A written file.
#[derive(Clone)]
pub struct Written {
    pub bytes: Vec<u8>,
    pub marks: Vec<Mark>,
    /// Where the tensors' data begins.
    pub data: usize,
}

impl Written {
    /// The number called `what`, overwritten (cut to its width).
    pub fn with(&self, what: &str, value: u64) -> Vec<u8> {
        let mark = self
            .marks
            .iter()
            .find(|m| m.what == what)
            .unwrap_or_else(|| panic!("no mark {what}"));
        self.with_mark(mark, value)
    }

    pub fn with_mark(&self, mark: &Mark, value: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[mark.at..mark.at + mark.width].copy_from_slice(&value.to_le_bytes()[..mark.width]);
        bytes
    }

    pub fn value(&self, mark: &Mark) -> u64 {
        let mut le = [0; 8];
        le[..mark.width].copy_from_slice(&self.bytes[mark.at..mark.at + mark.width]);
        u64::from_le_bytes(le)
    }

    fn u32(&mut self, value: u32, what: String) {
        self.marks.push(Mark {
            at: self.bytes.len(),
            width: 4,
            what,
        });
        self.bytes.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64, what: String) {
        self.marks.push(Mark {
            at: self.bytes.len(),
            width: 8,
            what,
        });
        self.bytes.extend(value.to_le_bytes());
    }

    fn string(&mut self, text: &[u8], what: String) {
        self.u64(text.len() as u64, what);
        self.bytes.extend(text);
    }

    fn value_of(&mut self, v: &Val, key: &str) {
        match v {
            Val::U8(v) | Val::Bool(v) => self.bytes.push(*v),
            Val::I8(v) => self.bytes.extend(v.to_le_bytes()),
            Val::U16(v) => self.bytes.extend(v.to_le_bytes()),
            Val::I16(v) => self.bytes.extend(v.to_le_bytes()),
            Val::U32(v) => self.bytes.extend(v.to_le_bytes()),
            Val::I32(v) => self.bytes.extend(v.to_le_bytes()),
            Val::F32(v) => self.bytes.extend(v.to_le_bytes()),
            Val::U64(v) => self.bytes.extend(v.to_le_bytes()),
            Val::I64(v) => self.bytes.extend(v.to_le_bytes()),
            Val::F64(v) => self.bytes.extend(v.to_le_bytes()),
            Val::Str(text) => self.string(text, format!("{key}: length")),
            Val::Array(id, all) => {
                self.u32(*id, format!("{key}: element type"));
                self.u64(all.len() as u64, format!("{key}: count"));
                for (n, v) in all.iter().enumerate() {
                    self.value_of(v, &format!("{key}[{n}]"));
                }
            }
        }
    }
}

/// A file to write.
pub struct Model {
    pub version: u32,
    pub alignment: usize,
    pub metadata: Vec<(Vec<u8>, Val)>,
    pub tensors: Vec<Tensor>,
}

impl Model {
    pub fn new(metadata: &[(&str, Val)], tensors: Vec<Tensor>) -> Self {
        let metadata = metadata
            .iter()
            .map(|(k, v)| (k.as_bytes().to_vec(), v.clone()))
            .collect();
        Model {
            version: 3,
            alignment: 32,
            metadata,
            tensors,
        }
    }

    pub fn write(&self) -> Written {
        let mut w = Written {
            bytes: b"GGUF".to_vec(),
            marks: Vec::new(),
            data: 0,
        };
        w.u32(self.version, "version".into());
        w.u64(self.tensors.len() as u64, "tensor count".into());
        w.u64(self.metadata.len() as u64, "metadata count".into());
        for (key, v) in &self.metadata {
            let name = String::from_utf8_lossy(key).into_owned();
            w.string(key, format!("{name}: key length"));
            w.u32(v.id(), format!("{name}: type"));
            w.value_of(v, &name);
        }
        let mut offset = 0;
        for t in &self.tensors {
            let name = String::from_utf8_lossy(&t.name).into_owned();
            w.string(&t.name, format!("{name}: name length"));
            w.u32(t.dims.len() as u32, format!("{name}: rank"));
            for (n, dim) in t.dims.iter().enumerate() {
                w.u64(*dim, format!("{name}: dim {n}"));
            }
            w.u32(t.id, format!("{name}: type"));
            w.u64(offset as u64, format!("{name}: offset"));
            offset = (offset + t.data.len()).next_multiple_of(self.alignment);
        }
        w.data = w.bytes.len().next_multiple_of(self.alignment);
        let mut bytes = std::mem::take(&mut w.bytes);
        for t in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
            bytes.extend(&t.data);
        }
        w.bytes = bytes;
        w
    }
}

/// A tensor of zeros but for a running number in its first bytes.
pub fn tensor(name: &str, dims: &[u64], id: u32, bytes: usize) -> Tensor {
    let data = (0..bytes).map(|n| n as u8).collect();
    Tensor {
        name: name.into(),
        dims: dims.to_vec(),
        id,
        data,
    }
}

/// A small file with every type of value, nested arrays, and three tensors (F32, Q8_0, F16).
pub fn small() -> Model {
    Model::new(
        &[
            ("general.architecture", Val::str("llama")),
            ("general.alignment", Val::U32(32)),
            ("u8", Val::U8(200)),
            ("i8", Val::I8(-3)),
            ("u16", Val::U16(60000)),
            ("i16", Val::I16(-30000)),
            ("i32", Val::I32(7)),
            ("f32", Val::F32(1.5)),
            ("bool", Val::Bool(1)),
            ("u64", Val::U64(1 << 40)),
            ("i64", Val::I64(-1)),
            ("f64", Val::F64(0.25)),
            (
                "tokens",
                Val::Array(8, vec![Val::str("a"), Val::str("größer"), Val::str("")]),
            ),
            ("types", Val::Array(5, vec![Val::I32(1), Val::I32(-2), Val::I32(3)])),
            ("scores", Val::Array(6, vec![Val::F32(0.0), Val::F32(-1.5)])),
            ("pattern", Val::Array(7, vec![Val::Bool(1), Val::Bool(0)])),
            ("empty", Val::Array(4, vec![])),
            (
                "nested",
                Val::Array(
                    9,
                    vec![Val::Array(4, vec![Val::U32(1)]), Val::Array(8, vec![Val::str("x")])],
                ),
            ),
        ],
        vec![
            tensor("norm", &[5], 0, 20),
            tensor("matrix", &[32, 3], 8, 102),
            tensor("half", &[3, 2, 2, 1], 1, 24),
        ],
    )
}
