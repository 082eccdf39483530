//! Writes the seeds of all targets to `corpus/`, from the test data of the repository.

use std::fs;
use std::path::Path;

use graft::format::Gguf;
use graft_fuzz::join;

#[allow(dead_code)]
#[path = "../../tests/faults_format/writer.rs"]
mod writer;

const TEXT: &str = "Hello, größe  日本 <|im_start|>user\n\t🙂 don't 1234567";
const MESSAGES: &str = r#"[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},
    {"role":"assistant","content":"Hello","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}]"#;
const TEMPLATES: &[&str] = &[
    "{% for m in messages %}{{ m['role'] + ': ' + m.content | trim }}\n{% endfor %}",
    "{%- set ns = namespace(n=0) %}{%- for m in messages[::-1] %}{%- set ns.n = ns.n + 1 %}{{ ns.n }}{% endfor %}",
    "{{ raise_exception('no') }}",
    "{% macro f(x) %}{{ x | tojson(indent=2) }}{% endmacro %}{{ f(messages) }}{{ strftime_now('%Y') }}",
    "{% if tools is defined and tools %}{{ tools | tojson }}{% endif %}{{ bos_token }}{{ messages[0].content.split(' ')[-1] }}",
    "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i ~ 'x' * 3 }}{% endfor %}{% generation %}a{% endgeneration %}",
];

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let dir = here.join("corpus").join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), bytes)
    };
    put("gguf", "small", &writer::small().write().bytes)?;
    for (n, template) in TEMPLATES.iter().enumerate() {
        put(
            "template",
            &n.to_string(),
            &join(template.as_bytes(), MESSAGES.as_bytes()),
        )?;
    }
    for entry in fs::read_dir(here.join("../tests/data/tiny"))? {
        let dir = entry?.path();
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(dir.join("model.gguf"))?;
        if bytes.len() < 128 << 10 {
            put("model", &name, &bytes)?;
        }
        let head = head(&bytes);
        put("gguf", &name, &head)?;
        put("tokenizer", &name, &join(TEXT.as_bytes(), &head))?;
        let gguf = Gguf::from_bytes(head).expect("the head of a good file");
        if let Ok(Some(template)) = gguf.metadata().str("tokenizer.chat_template") {
            put("template", &name, &join(template.as_bytes(), MESSAGES.as_bytes()))?;
        }
    }
    let data = here.join("../tests/data");
    for folder in [
        "tiny/llama-tied/adapters",
        "methods/llama-tied",
        "methods/qwen2",
        "adapters-bad",
    ] {
        for entry in fs::read_dir(data.join(folder))? {
            let dir = entry?.path();
            let read = |file: &str| fs::read(dir.join(file));
            // Cases stand beside the folders, and some bad folders lack a file.
            let (Ok(config), Ok(tensors)) = (read("adapter_config.json"), read("adapter_model.safetensors")) else {
                continue;
            };
            if tensors.len() < 24 << 10 {
                let name = format!(
                    "{}-{}",
                    folder.replace('/', "-"),
                    dir.file_name().unwrap_or_default().display()
                );
                put("adapter", &name, &join(&config, &tensors))?;
            }
        }
    }
    Ok(())
}

/// A model file without its tensors: the header and the metadata.
fn head(file: &[u8]) -> Vec<u8> {
    let gguf = Gguf::from_bytes(file.to_vec()).expect("a good file");
    let first = gguf.tensors().first().map_or("", |t| t.name.as_str());
    let entry = [&(first.len() as u64).to_le_bytes()[..], first.as_bytes()].concat();
    let end = file
        .windows(entry.len())
        .position(|w| w == entry)
        .expect("the first tensor's entry");
    let mut head = file[..end].to_vec();
    head[8..16].fill(0); // the tensor count
    head
}
