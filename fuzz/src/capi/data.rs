//! What arguments are made of: files, texts, templates.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The folder of a tiny model.
pub fn tiny(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/tiny")
        .join(model)
}

fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A model file.
pub static MODEL: LazyLock<Vec<u8>> = LazyLock::new(|| read(tiny("llama-tied-q8_0").join("model.gguf")));

/// An adapter's two files.
pub static ADAPTER: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let folder = tiny("llama-tied").join("adapters/qv");
    ["adapter_config.json", "adapter_model.safetensors"].map(|file| read(folder.join(file)))
});

/// Texts, some of them none.
pub const TEXTS: &[&[u8]] = &[
    b"Hello",
    b"",
    b"a b  c\n\n\td",
    "größe 日本 🙂".as_bytes(),
    b"<|im_start|>user\nHi<|im_end|>",
    b"</s><s><unk>",
    b"\xff",
    b"ab\xe6\x97",
    b"a\0b",
    b"the the the the the the the the",
    b"e",
];

/// Keys, names of formats and combinations.
pub const NAMES: &[&[u8]] = &[
    b"general.architecture",
    b"tokenizer.ggml.tokens",
    b"llama.context_length",
    b"Q8_0",
    b"F16",
    b"f32",
    b"Q4_0",
    b"linear",
    b"svd",
    b"cat",
    b"ties",
    b"dare_linear",
    b"magnitude_prune_svd",
    b"none",
    b"",
    b"\xff\xfe",
];

/// Chat templates.
pub const TEMPLATES: &[&[u8]] = &[
    b"{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    b"{{ messages[0].content }}{% if add_generation_prompt %}A:{% endif %}",
    b"{{ raise_exception('no') }}",
    b"{% for m in messages %}",
    b"{{ tools | tojson }}{{ messages[0].name }}",
    b"",
    b"\x80",
];

/// JSON of tools and of what else a message has.
pub const JSON: &[&[u8]] = &[
    b"{\"name\":\"n\"}",
    b"[]",
    b"[{\"type\":\"function\"}]",
    b"{",
    b"null",
    b"",
    b"\xff",
];

/// Lines of a batch; adapters have names of [`NAMES`].
pub static LINES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = tiny("llama-tied").join("adapters/qv");
    let texts = [
        r#"{"prompt": "Hello", "max_tokens": 2}"#,
        r#"{"id": "a", "tokens": [5, 6, 7], "max_tokens": 3, "adapter": "linear"}"#,
        r#"{"id": [{}], "tokens": [5], "max_tokens": 3, "temp": 1.5, "seed": 18446744073709551615, "top_k": 3}"#,
        r#"{"messages": [{"role": "user", "content": "Hi"}], "n": 2, "adapter": ["svd", "F16@0.5"]}"#,
        r#"{"prompt": "e", "adapter": null, "stop": ["a", "e"], "max_tokens": 5, "ignore_eos": true}"#,
        r#"{"tokens": [4294967295]}"#,
        r#"{"tokens": [], "max_tokens": 0}"#,
        r#"{"tokens": [5], "max_tokens": 18446744073709551615, "repeat_penalty": 1e39}"#,
        r#"{"tokens": [5], "max_tokens": 1, "logit_bias": {"5": -1, "77": 1e38}, "stop": ""}"#,
        r#"{"prompt": "x", "max_token": 2}"#,
        r#"{"prompt": "x", "tokens": [1]}"#,
        r#"{"prompt": "x", "adapter": "/nowhere@@"}"#,
        r#"{"id": null}"#,
        "[[[[",
        "null",
        "",
    ];
    let path = folder.to_string_lossy().replace('\\', "/");
    let opened = format!(r#"{{"prompt": "x", "adapter": "{path}@0.5", "max_tokens": 1}}"#);
    let mut lines: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    lines.extend([opened.into_bytes(), b"{\"prompt\": \"\xff\"}".to_vec()]);
    lines
});

/// Methods, targets, beginnings, schedules, optimizers, whole modules and the text of a prompt of a training.
pub const TRAIN: &[&[&[u8]]] = &[
    &[
        b"lora",
        b"dora",
        b"ia3",
        b"ln_tuning",
        b"rslora",
        b"oft",
        b"trainable_tokens",
        b"prompt_tuning",
    ],
    &[b"all-linear", b"q_proj,v_proj", b".*mlp.*", b"(", b"nothing"],
    &[b"default", b"gaussian"],
    &[b"cosine", b"linear", b"constant"],
    &[b"adamw", b"adamw8bit", b"sgd", b"lion"],
    &[b"norm", b"embed_tokens,lm_head", b",", b"q_proj"],
    &[b"Hello", b""],
];

/// Lines to learn from.
pub const ROWS: &[&[u8]] = &[
    b"{\"text\": \"Hello\"}",
    b"{\"prompt\": \"a\", \"completion\": \"b\"}",
    b"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}",
    b"{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}",
    b"{\"txt\": 1}",
    b"{\"text\": \"\"}",
    b"[[[[",
    b"",
    b"\xff",
];

/// Roles.
pub const ROLES: &[&[u8]] = &[b"user", b"assistant", b"system", b"tool", b"", b"\xc3"];

/// Paths to read.
pub static PATHS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let data = tiny("..");
    let of = |path: &str| data.join(path).into_os_string().into_encoded_bytes();
    vec![
        of("tiny/llama-tied/adapters/qv"),
        of("tiny/llama-tied/adapters/rslora"),
        of("tiny/llama-tied/adapters/patterns"),
        of("tiny/qwen2/adapters/qv"),
        of("tiny/llama-tied-q8_0/model.gguf"),
        of("tiny/llama-tied/model.gguf"),
        of("tiny/llama-tied"),
        of("adapters-bad"),
        of("not there"),
        b"\xff".to_vec(),
        Vec::new(),
    ]
});
