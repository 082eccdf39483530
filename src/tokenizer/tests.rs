//! Small vocabularies, hostile ones, and hostile templates. The real models are in `tests/vs_tokenizers.rs`.

use proptest::prelude::*;
use tokenizers::models::bpe::BPE;

use super::*;
use crate::ErrorKind;

const PLAIN: EncodeOptions = EncodeOptions {
    add_bos_eos: false,
    parse_special: true,
};

/// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, then the tokens with their scores.
fn spm<'a>(tokens: &[(&'a str, f32)]) -> Facts<'a> {
    let mut facts = Facts {
        model: "llama",
        tokens: vec!["<unk>", "<s>", "</s>"],
        kinds: vec![Kind::Unknown, Kind::Control, Kind::Control],
        scores: vec![0.0; 3],
        unknown: Some(0),
        ..Facts::default()
    };
    for &(token, score) in tokens {
        facts.tokens.push(token);
        facts.kinds.push(Kind::Normal);
        facts.scores.push(score);
    }
    facts
}

fn gpt2<'a>(tokens: &[&'a str], merges: &[&'a str]) -> Facts<'a> {
    Facts {
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens: tokens.to_vec(),
        kinds: vec![Kind::Normal; tokens.len()],
        merges: merges.to_vec(),
        ..Facts::default()
    }
}

fn build(facts: &Facts<'_>) -> Result<Tokenizer> {
    Tokenizer::from_facts(facts)
}

#[test]
fn merges_go_by_rank() {
    let tokens = ["a", "b", "c", "ab", "bc", "abc", "Ġ", "Ġa"];
    let ab_first = build(&gpt2(&tokens, &["a b", "b c", "ab c", "Ġ a"])).unwrap();
    assert_eq!(ab_first.encode("abc abcbc", PLAIN).unwrap(), [5, 6, 5, 4]);
    let bc_first = build(&gpt2(&tokens, &["b c", "a b", "ab c", "Ġ a"])).unwrap();
    assert_eq!(bc_first.encode("abc aab", PLAIN).unwrap(), [0, 4, 7, 3]);
    assert_eq!(bc_first.decode(&[7, 4, 6], false).unwrap(), " abc ");
}

#[test]
fn spm_adds_and_drops_its_space() {
    let facts = spm(&[("▁", -5.0), ("a", -6.0), ("b", -7.0), ("▁a", -1.0), ("ab", -2.0)]);
    let t = build(&facts).unwrap();
    assert_eq!(t.encode("a ab", EncodeOptions::default()).unwrap(), [1, 6, 6, 5]);
    // A prefix also behind a special token; a literal mark is a space.
    assert_eq!(t.encode("<s>a▁a</s>", PLAIN).unwrap(), [1, 6, 6, 2]);
    assert_eq!(t.encode("", EncodeOptions::default()).unwrap(), [1]);
    // No byte tokens: a run of unknown characters is one <unk>.
    assert_eq!(t.encode("日本b", PLAIN).unwrap(), [3, 0, 5]);
    assert_eq!(t.decode(&[1, 6, 6, 5], true).unwrap(), "a ab");
    assert_eq!(t.decode(&[6, 6], true).unwrap(), "a a");
    let mut stream = t.stream(true);
    assert_eq!(stream.push(1).unwrap(), "");
    assert_eq!(stream.push(6).unwrap(), "a");
    assert_eq!(stream.push(6).unwrap(), " a");
    assert_eq!(stream.finish(), "");
    let no_prefix = build(&Facts {
        add_space_prefix: Some(false),
        ..facts
    })
    .unwrap();
    assert_eq!(no_prefix.encode("a a", PLAIN).unwrap(), [4, 6]);
    assert_eq!(no_prefix.decode(&[6], true).unwrap(), " a");
}

#[test]
fn byte_tokens_make_whole_characters() {
    let mut facts = spm(&[("▁", -1.0)]);
    let names: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
    for name in &names {
        facts.tokens.push(name);
        facts.kinds.push(Kind::Byte);
        facts.scores.push(0.0);
    }
    let t = build(&facts).unwrap();
    let id = |b: u8| 4 + u32::from(b);
    assert_eq!(t.encode("é", PLAIN).unwrap(), [3, id(0xc3), id(0xa9)]);
    assert_eq!(t.decode(&[3, id(0xc3), id(0xa9)], true).unwrap(), "é");
    // As Hugging Face's ByteFallback: a run that is not UTF-8 is one U+FFFD per byte.
    assert_eq!(
        t.decode(&[id(0xc3), id(0xa9), id(0xff)], true).unwrap(),
        "\u{fffd}\u{fffd}\u{fffd}"
    );
    let mut stream = t.stream(true);
    assert_eq!(stream.push(id(0xe2)).unwrap(), "");
    assert_eq!(stream.push(id(0x82)).unwrap(), "");
    assert_eq!(stream.push(id(0xac)).unwrap(), "€");
    assert_eq!(stream.push(id(0xe2)).unwrap(), "");
    assert_eq!(stream.push(3).unwrap(), "\u{fffd} ");
    assert_eq!(stream.push(id(0xe2)).unwrap(), "");
    assert_eq!(stream.finish(), "\u{fffd}");
}

/// The merge list that Hugging Face's converters derive from a SentencePiece vocabulary, on the crate's BPE.
fn derived(tokens: &[(String, f32)], by_length: bool) -> BPE {
    let mut cuts = Vec::new();
    let position = |t: &str| tokens.iter().position(|(other, _)| other == t);
    for (id, (token, score)) in tokens.iter().enumerate() {
        for (at, _) in token.char_indices().skip(1) {
            let (l, r) = token.split_at(at);
            if let (Some(li), Some(ri)) = (position(l), position(r)) {
                cuts.push((*score, id, (li, ri), (l.to_owned(), r.to_owned())));
            }
        }
    }
    let length = |s: &str| std::cmp::Reverse(s.chars().count());
    cuts.sort_by(|a, b| {
        let lengths = |c: &(String, String)| {
            if by_length {
                Some((length(&c.0), length(&c.1)))
            } else {
                None
            }
        };
        let rest = |c: &(f32, usize, (usize, usize), (String, String))| (lengths(&c.3), c.1, c.2);
        b.0.total_cmp(&a.0).then_with(|| rest(a).cmp(&rest(b)))
    });
    let vocab: serde_json::Map<_, _> = (0..).zip(tokens).map(|(i, (t, _))| (t.clone(), i.into())).collect();
    let merges: Vec<(String, String)> = cuts.into_iter().map(|c| c.3).collect();
    let json = serde_json::json!({"type": "BPE", "vocab": vocab, "merges": merges});
    serde_json::from_str(&json.to_string()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Random vocabularies over few letters, where almost everything is a tie, against the crate's BPE.
    #[test]
    fn spm_equals_the_crate_with_derived_merges(
        words in prop::collection::vec(("[ab▁]{2,6}", 0u8..6), 0..40),
        texts in prop::collection::vec("[ab ]{1,60}", 1..8),
        space_prefix: bool,
    ) {
        use tokenizers::Model as _;
        let mut tokens = vec![("▁".to_owned(), -9.0), ("a".to_owned(), -8.0), ("b".to_owned(), -8.0)];
        for (word, score) in words {
            if tokens.iter().all(|(t, _)| *t != word) {
                tokens.push((word, -f32::from(score)));
            }
        }
        let listed: Vec<(&str, f32)> = tokens.iter().map(|(t, s)| (t.as_str(), *s)).collect();
        let ours = build(&Facts { add_space_prefix: Some(space_prefix), ..spm(&listed) }).unwrap();
        let oracle = derived(&tokens, !space_prefix);
        for text in texts {
            let prefix = if space_prefix { "▁" } else { "" };
            let word = format!("{prefix}{}", text.replace(' ', "▁"));
            let expected: Vec<u32> = oracle.tokenize(&word).unwrap().iter().map(|t| t.id + 3).collect();
            prop_assert_eq!(ours.encode(&text, PLAIN).unwrap(), expected, "{:?} {:?}", text, tokens);
        }
    }

    /// Whatever a file says, building and using the tokenizer ends without a panic.
    #[test]
    fn hostile_metadata(
        model in prop::sample::select(vec!["gpt2", "llama", "t5", "bert", ""]),
        pre in prop::sample::select(vec![None, Some("qwen2"), Some("llama-bpe"), Some("nonsense")]),
        tokens in prop::collection::vec("[abĠ▁ é<0x1>é日\u{0}]{0,5}", 0..30),
        kinds in prop::collection::vec(1i64..=6, 0..30),
        scores in prop::collection::vec(prop::num::f32::ANY, 0..30),
        merges in prop::collection::vec("[abĠ ]{0,6}", 0..6),
        same_lengths: bool,
        unknown in 0u32..40,
        text in "[abĠ▁ é<0x1>\\PC]{0,40}",
        ids in prop::collection::vec(0u32..35, 0..20),
    ) {
        let n = tokens.len();
        let fit = |len: usize| if same_lengths { n } else { len };
        let facts = Facts {
            model,
            pre,
            tokens: tokens.iter().map(String::as_str).collect(),
            kinds: kinds.iter().chain(std::iter::repeat(&1)).take(fit(kinds.len())).map(|&k| Kind::from_number(k).unwrap()).collect(),
            scores: scores.iter().chain(std::iter::repeat(&-1.0)).take(fit(scores.len())).copied().collect(),
            merges: merges.iter().map(String::as_str).collect(),
            unknown: Some(unknown).filter(|&u| (u as usize) < n),
            ..Facts::default()
        };
        if let Ok(t) = build(&facts) {
            for parse_special in [true, false] {
                let encoded = t.encode(&text, EncodeOptions { add_bos_eos: true, parse_special }).unwrap();
                prop_assert!(encoded.iter().all(|&id| (id as usize) < n));
                t.decode(&encoded, false).unwrap();
            }
            let mut stream = t.stream(false);
            for &id in &ids {
                prop_assert_eq!(stream.push(id).is_ok(), (id as usize) < n);
            }
            stream.finish();
        }
    }

    /// Any template source: an error or a text, never a panic or a hang.
    #[test]
    fn hostile_templates(source in "(\\{[%{][-]? ?|[ -]?[%}]\\}|for x in |if |endfor|endif|set |messages|macro m\\(\\)|\\[|\\]|::|-1|x|\\||'|\"|\\(|\\)|~|\\*|[ -~é]){0,30}") {
        if let Ok(t) = ChatTemplate::new(&source, "<s>", "</s>") {
            let _ = t.render(&[Message::new("user", "hi")], true, None);
        }
    }
}

fn says(facts: &Facts<'_>, kind: ErrorKind, text: &str) {
    let e = build(facts).err().expect("this must be refused");
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.to_string().contains(text), "{e}");
}

#[test]
fn faults_are_named() {
    let good = gpt2(&["a", "b", "ab"], &["a b"]);
    build(&good).unwrap();
    let invalid = ErrorKind::Invalid;
    says(
        &gpt2(&[], &[]),
        invalid,
        "tokenizer.ggml.tokens: the vocabulary is empty",
    );
    says(
        &gpt2(&["a", "b"], &["a b"]),
        invalid,
        "merge 0 does not join two tokens",
    );
    for bad in ["a", "", " ", "a  b", "a c", "ab", "a b c", "日 a"] {
        says(
            &gpt2(&["a", "b", "ab"], &["a b", bad]),
            invalid,
            "tokenizer.ggml.merges: merge 1 does not",
        );
    }
    let mut facts = good.clone();
    facts.kinds.pop();
    says(
        &facts,
        invalid,
        "tokenizer.ggml.token_type: not one type per token: expected 3, found 2",
    );
    let mut facts = spm(&[("a", 0.0)]);
    facts.scores.pop();
    says(
        &facts,
        invalid,
        "tokenizer.ggml.scores: not one score per token: expected 4, found 3",
    );
    facts.scores.clear();
    says(&facts, invalid, "tokenizer.ggml.scores");
    says(
        &spm(&[("a", f32::NAN)]),
        invalid,
        "the score of token 3 is not a number",
    );
    for model in ["bert", "rwkv", "plamo2", "no such\u{0}"] {
        says(
            &Facts { model, ..good.clone() },
            ErrorKind::Unsupported,
            "tokenizer.ggml.model",
        );
    }
    let facts = Facts {
        pre: Some("made-up"),
        ..good
    };
    says(
        &facts,
        ErrorKind::Unsupported,
        "tokenizer.ggml.pre: the pre-tokenizer is not known: found \"made-up\"",
    );
}

#[test]
fn long_texts_take_linear_memory_and_little_time() {
    // Quadratic merging of this would take hours.
    let t = build(&spm(&[("▁", -9.0), ("a", -8.0), ("aa", -1.0), ("aaaa", -2.0)])).unwrap();
    let text = "a".repeat(1 << 18);
    assert_eq!(t.encode(&text, PLAIN).unwrap().len(), 1 + (1 << 16));
    let t = build(&gpt2(&["a", "Ġ", "aa", "ĠĠ"], &["a a", "Ġ Ġ"])).unwrap();
    assert_eq!(t.encode(&text, PLAIN).unwrap().len(), 1 << 17);
    let spaces = " ".repeat(1 << 18) + "a";
    assert_eq!(t.encode(&spaces, PLAIN).unwrap().len(), (1 << 17) + 2);
}

fn render(source: &str) -> Result<String> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(&[Message::new("user", "hi")], true, None)
}

#[test]
fn templates_that_never_end_are_stopped() {
    let bombs = [
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(90) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(90) %}{% set ns.x = ns.x.replace('a', 'aaaaaaaaaaaaaaaa') %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 999999999999 }}",
        "{{ ('x' * 9999999) | tojson }}{{ ([1] * 99999999) | tojson }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(500) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}{{ ns.x | tojson }}",
        "{% set ns = namespace(x=[1]) %}{% for j in range(99) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for j in range(99) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}{% endfor %}",
    ];
    // Lazily joined lists cost no fuel when the engine walks them by itself: the time limit ends that.
    let walk = "{% set ns = namespace(x=[1]) %}{% for i in range(33) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ 2 in ns.x }}";
    assert_eq!(render(walk).unwrap_err().kind(), ErrorKind::Limit);
    for source in bombs {
        let e = render(source).expect_err(source);
        assert!(matches!(e.kind(), ErrorKind::Limit | ErrorKind::Invalid), "{e}");
    }
    for source in [
        "{% include 'x' %}",
        "{% extends 'chat_template' %}",
        "{{ nothing.at.all }}",
        "{% if %}",
        "{{",
        "{{ 1 / 0 }}",
    ] {
        render(source).expect_err(source);
    }
    let deep = "(".repeat(100_000) + "1";
    render(&format!("{{{{ {deep} }}}}")).expect_err("nested too deeply");
    let deep = "{% if true %}".repeat(50_000);
    render(&deep).expect_err("nested too deeply");
    assert_eq!(render(&"x".repeat(2 << 20)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn template_extensions() {
    assert_eq!(
        render("{{ strftime_now('%Y-') | length }}{{ bos_token }}{{ eos_token }}").unwrap(),
        "5<s></s>"
    );
    assert_eq!(render("{%- generation -%} a {%- endgeneration +%}\nb").unwrap(), "a\nb");
    let e = render("{{ raise_exception('no\nsystem role') }}").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.to_string().contains("no\\nsystem role"), "{e}");
    let message: Message = serde_json::from_str(r#"{"role":"tool","content":null,"name":"f","n":[1]}"#).unwrap();
    assert_eq!((message.content.as_str(), message.extra.len()), ("", 2));
}

#[test]
fn unigram_takes_the_most_likely_cut() {
    // Log-probabilities: "▁abc" is best as ▁ab + c (-3.5), not ▁a + bc (-4) or ▁ + abc (-6).
    let tokens = ["<pad>", "</s>", "<unk>", "▁", "▁a", "▁ab", "bc", "c", "abc", "<extra>"];
    let facts = Facts {
        model: "t5",
        tokens: tokens.to_vec(),
        kinds: [3, 3, 2, 1, 1, 1, 1, 1, 1, 4]
            .map(|k| Kind::from_number(k).unwrap())
            .to_vec(),
        scores: vec![0.0, 0.0, 0.0, -2.0, -2.0, -1.5, -2.0, -2.0, -4.0, 0.0],
        eos: Some(1),
        ..Facts::default()
    };
    let t = build(&facts).unwrap();
    assert_eq!(t.encode("abc", EncodeOptions::default()).unwrap(), [5, 7, 1]);
    assert_eq!(t.encode("abc a<extra>", PLAIN).unwrap(), [5, 7, 4, 9]);
    assert_eq!(t.encode("abc 日", PLAIN).unwrap(), [5, 7, 3, 2]);
    assert_eq!(t.decode(&[5, 7, 4, 1], true).unwrap(), "abc a");
}

/// A `tokenizer.json` written out here, byte-level; the ids follow by hand from its merges.
#[test]
fn reads_tokenizer_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let byte_level =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let special = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(8, "<|end|>"), special(9, "<bos>")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġa": 4, "Ã": 5, "©": 6, "<s>": 7},
            "merges": [["a", "b"], ["Ġ", "a"]]},
    });
    std::fs::write(&path, json.to_string()).unwrap();
    let t = Tokenizer::from_file(&path).unwrap();
    assert_eq!(t.encode("ab a<|end|>é", PLAIN).unwrap(), [3, 4, 8, 5, 6]);
    let plain = EncodeOptions {
        add_bos_eos: false,
        parse_special: false,
    };
    assert!(!t.encode("ab<|end|>", plain).unwrap().contains(&8));
    assert_eq!(t.decode(&[3, 4, 8, 5, 6], false).unwrap(), "ab a<|end|>é");
    assert_eq!(t.decode(&[3, 8, 5], true).unwrap(), "ab\u{fffd}");
    assert_eq!((t.bos(), t.eos(), t.vocab_size()), (Some(9), None, 10));
    assert!(t.is_end_of_generation(8) && t.is_special(8) && !t.is_special(7));

    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        r#"{"eos_token": {"content": "<|end|>"}, "bos_token": null}"#,
    )
    .unwrap();
    assert_eq!(Tokenizer::from_file(&path).unwrap().eos(), Some(8));

    for (content, kind) in [
        ("", ErrorKind::Invalid),
        ("{}", ErrorKind::Invalid),
        ("[1]", ErrorKind::Invalid),
        ("\u{0}", ErrorKind::Invalid),
    ] {
        std::fs::write(&path, content).unwrap();
        let e = Tokenizer::from_file(&path).err().expect(content);
        assert_eq!(e.kind(), kind);
        assert!(e.to_string().contains("tokenizer.json: "), "{e}");
    }
    assert_eq!(Tokenizer::from_file(folder.path()).err().unwrap().kind(), ErrorKind::Io);
    assert_eq!(
        Tokenizer::from_file(&folder.path().join("none")).err().unwrap().kind(),
        ErrorKind::Io
    );
}

/// Chains without brackets are trees as deep as they are long; the engine counts only nested ones. A test's thread has 2 MB of stack.
#[test]
fn a_template_of_one_long_chain_is_compiled_or_refused() {
    let refused = |template: &str| {
        let e = ChatTemplate::new(template, "", "").err().expect("too long");
        assert!(
            e.kind() == ErrorKind::Limit && e.to_string().contains("too long"),
            "{e}"
        );
    };
    let chains = [
        "+1",
        "~1",
        " and 1",
        " or 1",
        "**1",
        "//1",
        "|int",
        "[0]",
        ".a",
        " is odd",
        "()",
        " in x",
        "==1",
        " if 1 else 1",
        "-1",
        "+{'a':{'b':1}}['a']['b']",
        "+'}}'",
    ];
    for chain in chains {
        refused(&format!("{{{{ x{} }}}}", chain.repeat(120_000 / chain.len())));
        // As long as is allowed.
        if let Ok(template) = ChatTemplate::new(&format!("{{{{ x{} }}}}", chain.repeat(300)), "", "") {
            let _ = template.render(&[], true, None);
        }
    }
    for prefix in ["not ", "-", "("] {
        refused(&format!("{{{{ {}1 }}}}", prefix.repeat(120_000 / prefix.len())));
    }
    let longest = format!("{{{{ 1{} }}}}", "+1".repeat(2000));
    let rendered = ChatTemplate::new(&longest, "", "").and_then(|t| t.render(&[], true, None));
    assert_eq!(rendered.expect("within the limit"), "2001");
    // Tags one after the other are no chain, though elifs are one in the tree.
    let elifs = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}a".repeat(9_000));
    if let Ok(template) = ChatTemplate::new(&elifs, "", "") {
        let _ = template.render(&[], true, None);
    }
    refused(&" ".repeat((1 << 17) + 1));
}
