//! Whether two names of a base model can be the same model: an adapter says a hub id, a GGUF file whatever its converter knew
//! ("Smollm2 135M 8k Lc100K Mix1 Ep2" is SmolLM2-135M-Instruct). Only a contradiction is one: other sizes or versions, or nothing in common.

use std::path::Path;

use graft::format::Metadata;

/// The names that a model file has for itself and for what it was made from.
pub fn of_model(meta: &Metadata) -> Vec<String> {
    let text = |key: &str| meta.str(key).ok().flatten().unwrap_or_default();
    let parts = ["general.basename", "general.size_label", "general.finetune"].map(text);
    let mut names = vec![text("general.name").to_string(), parts.join(" ")];
    for i in 0..meta
        .usize("general.base_model.count")
        .ok()
        .flatten()
        .unwrap_or(0)
        .min(8)
    {
        names.push(text(&format!("general.base_model.{i}.name")).to_string());
    }
    names.retain(|name| !name.trim().is_empty());
    names
}

/// Whether `adapter`, the base model that an adapter names, is none of the models that `model` names.
pub fn contradict(adapter: &str, model: &[String]) -> bool {
    if is_path(adapter) {
        return false;
    }
    let adapter = Name::of(adapter.rsplit('/').next().unwrap_or(adapter));
    let mut names = model.iter().map(|name| Name::of(name)).filter(Name::tells).peekable();
    adapter.tells() && names.peek().is_some() && names.all(|name| name.contradicts(&adapter))
}

/// A place on somebody's disk, where a hub id is `model` or `owner/model`.
fn is_path(name: &str) -> bool {
    name.starts_with(['/', '.', '~'])
        || name.contains(['\\', ':'])
        || name.matches('/').count() > 1
        || Path::new(name).exists()
}

/// What a name says.
struct Name {
    /// Runs of letters, without units and what is too short to mean anything.
    words: Vec<String>,
    /// Versions: numbers alone.
    versions: Vec<f64>,
    /// Numbers with k, m, b or t behind them.
    sizes: Vec<f64>,
}

impl Name {
    fn of(name: &str) -> Self {
        let (mut words, mut versions, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        let chars: Vec<char> = name.to_lowercase().chars().collect();
        let mut i = 0;
        let run =
            |from: usize, is: &dyn Fn(usize) -> bool| (from..chars.len()).find(|&i| !is(i)).unwrap_or(chars.len());
        while i < chars.len() {
            let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
            // 1_6b is 1.6b where a point could not be.
            let number = |i: usize| digit(i) || (matches!(chars[i], '.' | '_') && digit(i - 1) && digit(i + 1));
            let letter = |i: usize| chars.get(i).is_some_and(|c| c.is_alphabetic());
            if digit(i) {
                let end = run(i + 1, &number);
                let text: String = chars[i..end].iter().map(|c| if *c == '_' { '.' } else { *c }).collect();
                let unit = chars.get(end).filter(|_| !letter(end + 1));
                let unit = unit.and_then(|c| Some(1000f64.powi("kmbt".find(*c)? as i32 + 1)));
                // 2024.01.15 is a date.
                if let Ok(value) = text.parse::<f64>() {
                    match unit {
                        Some(unit) => sizes.push(value * unit),
                        None => versions.push(value),
                    }
                }
                i = end + usize::from(unit.is_some());
            } else if letter(i) {
                let end = run(i, &letter);
                if end - i > 2 {
                    words.push(chars[i..end].iter().collect());
                }
                i = end;
            } else {
                i += 1;
            }
        }
        Name { words, versions, sizes }
    }

    /// Whether it tells models of one family apart.
    fn tells(&self) -> bool {
        let numbers = self.versions.len() + self.sizes.len();
        numbers > 0 && !self.words.is_empty()
    }

    fn contradicts(&self, other: &Name) -> bool {
        // Sizes are rounded: 0.5B and 494M.
        let near = |a: f64, b: f64| a / b > 0.8 && b / a > 0.8;
        let equal = |a: f64, b: f64| a == b;
        !self.words.iter().any(|word| other.words.contains(word))
            || both_alone(&self.sizes, &other.sizes, &near)
            || both_alone(&self.versions, &other.versions, &equal)
    }
}

/// Whether each has numbers that the other has not: one that only says less does not contradict.
fn both_alone(a: &[f64], b: &[f64], same: &dyn Fn(f64, f64) -> bool) -> bool {
    let alone = |a: &[f64], b: &[f64]| a.iter().any(|x| !b.iter().any(|y| same(*x, *y)));
    alone(a, b) && alone(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_the_same_and_other_models_are_not() {
        let smollm = "Smollm2 135M 8k Lc100K Mix1 Ep2";
        for (adapter, model) in [
            ("HuggingFaceTB/SmolLM2-135M-Instruct", smollm),
            ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5 Coder 0.5B Instruct AWQ"),
            ("Qwen/Qwen2.5-0.5B", "Qwen2.5 494.03M"),
            ("google/gemma-3-270m", "Gemma 3 270m"),
            ("unsloth/gemma-3-270m-it-unsloth-bnb-4bit", "Gemma 3 270m"),
            ("meta-llama/Llama-2-7b-hf", "LLaMA v2"),
            ("meta-llama/Llama-3.1-8B", "Meta Llama 3.1 8B Instruct"),
            ("mistralai/Mistral-7B-v0.1", "mistralai_mistral-7b-v0.1"),
            ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "Tinyllama 1.1B Chat v1"),
            ("stabilityai/stablelm-2-1_6b", "Stablelm 2 1.6b"),
            ("microsoft/phi-2", "Phi2"),
            ("microsoft/phi-2", "models"),
            ("my-model", smollm),
            ("/srv/llama-3-8b", smollm),
            ("C:\\llama-3-8b", smollm),
            ("../llama-3-8b", smollm),
            ("runs/llama/llama-3-8b", smollm),
            ("", smollm),
        ] {
            assert!(!contradict(adapter, &[model.to_string()]), "{adapter} and {model}");
        }
        for (adapter, model) in [
            ("HuggingFaceTB/SmolLM2-360M-Instruct", smollm),
            ("HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen2.5 Coder 0.5B Instruct AWQ"),
            ("Qwen/Qwen2-0.5B-Instruct", "Qwen2.5 0.5B Instruct"),
            ("google/gemma-2-2b", "Gemma 3 270m"),
            ("meta-llama/Llama-3.2-1B", "Llama 3.2 3B"),
            ("mistralai/Mistral-7B-v0.1", "Llama 2 7B"),
        ] {
            assert!(contradict(adapter, &[model.to_string()]), "{adapter} and {model}");
            // One name that fits is enough.
            assert!(!contradict(adapter, &[model.to_string(), adapter.to_string()]));
        }
        assert!(!contradict("microsoft/phi-2", &[]));
    }
}
