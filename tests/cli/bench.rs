//! `graft bench`: that everything promised is there, and that work is counted right. No figure of time is judged.

use serde_json::Value;

use super::tools::*;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn bench_prints_what_it_promises() {
    let document = graft(&[
        "bench",
        "-m",
        &tiny(),
        "-a",
        &adapter("qv"),
        "-p",
        "16",
        "-n",
        "4",
        "-r",
        "2",
        "--json",
    ])
    .json();
    for key in ["pp", "tg"] {
        assert!(document[key].as_f64().expect("a number") > 0.0, "{document}");
    }
    for limit in ["read_gb_per_s", "f32_gmac_per_s", "int8_gmac_per_s"] {
        assert!(
            document["limits"][limit].as_f64().expect("a number") > 0.0,
            "{document}"
        );
    }
    assert!(document["generation"]["percent_of_limit"].is_number(), "{document}");
    assert!(
        document["start"]["start_ms"].is_number() && document["start"]["kv_bytes"].is_number(),
        "{document}"
    );
    let text = graft(&["bench", "-m", &tiny(), "-p", "16", "-n", "4", "-r", "1"]);
    for word in ["limits", "prompt", "generation", "start", "anonymous memory"] {
        assert!(text.text().contains(word), "{}", text.out);
    }
}

/// Oracle: the tensors that `graft inspect` lists. Each weight of a layer meets every token of the prompt, the head only the last.
#[test]
fn bench_counts_the_work_of_operations() {
    let tensors = graft(&["inspect", &tiny(), "--json"]).json()["tensors"].clone();
    let document = graft(&[
        "bench",
        "-m",
        &tiny(),
        "-p",
        "16",
        "-n",
        "4",
        "-r",
        "2",
        "--ops",
        "--json",
    ])
    .json();
    let tokens = |phase| document["ops"][phase]["tokens"].clone();
    assert_eq!((tokens("prompt"), tokens("generation")), (16.into(), 4.into()));
    for (phase, runs, rows, head_runs) in [("prompt", 1, 16, 1), ("generation", 4, 1, 4)] {
        let ops = document["ops"][phase]["ops"].as_array().expect("operations");
        let find = |op: &str, weight: Option<&str>| {
            let found = ops.iter().find(|o| o["op"] == op && o["weight"].as_str() == weight);
            found.unwrap_or_else(|| panic!("no {op} of {weight:?} in {phase}"))
        };
        for weights in ["attn_q+attn_k+attn_v", "attn_output", "ffn_gate+ffn_up", "ffn_down"] {
            let row = find("matmul", Some(weights));
            let names: Vec<_> = weights.split('+').map(|w| format!(".{w}.weight")).collect();
            let same = tensors.as_array().expect("tensors").iter().filter(|t| {
                let name = t["name"].as_str().expect("a name");
                names.iter().any(|n| name.ends_with(n))
            });
            let (mut elements, mut bytes, mut count) = (0, 0, 0);
            for t in same {
                elements += t["dims"]
                    .as_array()
                    .expect("dims")
                    .iter()
                    .filter_map(Value::as_u64)
                    .product::<u64>();
                bytes += t["bytes"].as_u64().expect("bytes");
                count += 1;
            }
            assert_eq!(count, 2 * names.len(), "two layers");
            assert_eq!(row["calls"], runs * 2, "{row}");
            assert_eq!(row["macs"], runs * rows * elements, "{row}");
            assert_eq!(row["bytes"], runs * bytes, "{row}");
            assert!(
                row["limit"].is_string() && number(&row["percent_of_limit"]) > 0.0,
                "{row}"
            );
        }
        // The head is the embedding: 288 rows of 64.
        assert_eq!(find("matmul", Some("token_embd"))["macs"], head_runs * 288 * 64);
        // Rows see 1, 2, … keys; q·k and p·v, 4 heads of 16, 2 layers.
        let pairs: u64 = (1..=runs * rows).sum();
        assert_eq!(find("attention", None)["macs"], 2 * pairs * 4 * 16 * 2);
        if phase == "generation" {
            assert_eq!(find("sample", None)["calls"], runs);
        }
        for op in ["rms_norm", "pack", "rope", "kv_write", "gated", "add"] {
            let row = find(op, None);
            assert!(row["limit"].is_null() && number(&row["ms"]) >= 0.0, "{row}");
        }
        assert_eq!(find("embed", Some("token_embd"))["calls"], runs);
        let times: Vec<f64> = ops.iter().map(|o| number(&o["ms"])).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "the longest first");
    }
    let text = graft(&["bench", "-m", &tiny(), "-p", "16", "-n", "4", "-r", "1", "--ops"]);
    for word in [
        "attn_q+attn_k+attn_v matmul F32",
        "of its limit",
        "between operations",
        "generation, 4 tokens",
    ] {
        assert!(text.text().contains(word), "{}", text.out);
    }
    // Updates run with the products that they belong to.
    let (m, qv) = (tiny(), adapter("qv"));
    let args = ["bench", "-m", &m, "-p", "8", "-n", "2", "-r", "1", "--ops", "--json"];
    let macs = |document: &Value| -> u64 {
        let ops = document["ops"]["prompt"]["ops"].as_array().expect("operations");
        ops.iter().map(|o| o["macs"].as_u64().expect("a number")).sum()
    };
    let (bare, adapted) = (graft(&args).json(), graft(&[&args[..], &["-a", &qv]].concat()).json());
    // q: 64 → 8 → 64 and v: 64 → 8 → 32, in two layers, 8 tokens.
    assert_eq!(macs(&adapted) - macs(&bare), 8 * 2 * (8 * (64 + 64) + 8 * (64 + 32)));
    assert!(number(&adapted["adapters"]["switch_us"]) > 0.0 && bare["adapters"].is_null());
}

/// Oracle: arithmetic by hand. The model has 2 layers, 4 heads and 2 key-value heads of 16, keys and values of 2 bytes.
#[test]
fn bench_measures_at_a_depth() {
    let args = ["bench", "-m", &tiny(), "-p", "8", "-n", "4", "-d", "100,20", "-r", "1"];
    let document = graft(&[&args[..], &["--json", "--ops"]].concat()).json();
    let depths = document["depth"].as_array().expect("a list");
    assert_eq!(depths.iter().map(|d| &d["tokens"]).collect::<Vec<_>>(), [20, 100]);
    let depth = &depths[1];
    for phase in ["prompt", "generation"] {
        let deep = &depth[phase];
        for key in ["tokens_per_s", "law_tokens_per_s", "percent_of_law"] {
            assert!(number(&deep[key]) > 0.0, "{deep}");
        }
        assert!(number(&deep["law_tokens_per_s"]) < number(&document[phase]["tokens_per_s"]));
        // Every token sees 100 keys more.
        assert_eq!(deep["more_macs"], 2 * 100 * 4 * 16 * 2);
    }
    // A prompt of one chunk reads the 100 keys and values once for its 8 tokens.
    let kv = 2 * 100 * 2 * 2 * 16 * 2;
    assert_eq!(depth["generation"]["more_kv_bytes"], kv);
    assert_eq!(depth["prompt"]["more_kv_bytes"], kv / 8);
    // The operations are those behind the depth.
    let ops = document["ops"]["generation"]["ops"].as_array().expect("operations");
    let attention = ops.iter().find(|o| o["op"] == "attention").expect("attention");
    assert_eq!(attention["macs"], 2 * (101 + 102 + 103 + 104) * 4 * 16 * 2);

    let text = graft(&args);
    assert!(
        text.text().contains("behind 100 tokens")
            && text.out.contains("behind 20 tokens")
            && text.out.contains("the law"),
        "{}",
        text.out
    );
    graft(&["bench", "-m", &tiny(), "-p", "8", "-n", "4", "-d", "249"]).failed(2, &["-d", "256", "257"]);
}

/// Oracle: what the numbers beside it say is there, and that XML is well formed as far as every tag is closed.
#[test]
fn bench_draws_a_picture() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = in_folder(&folder, "a & b.svg");
    let args = [
        "bench",
        "-m",
        &tiny(),
        "-p",
        "16",
        "-n",
        "4",
        "-r",
        "1",
        "--svg",
        &picture,
    ];
    let read = || std::fs::read_to_string(&picture).expect("the picture");
    graft(&args).text();
    let plain = read();
    assert!(plain.starts_with("<svg ") && plain.ends_with("</svg>\n"));
    for words in ["model.gguf, fast", "GB/s", "GMAC/s", ">prompt ", ">generation "] {
        assert!(plain.contains(words), "no {words:?} in {plain}");
    }
    assert_eq!(plain.matches("<circle").count(), 2);
    // With the operations, over the old one.
    let document = graft(&[&args[..], &["--ops", "--json"]].concat()).json();
    let drawn = |phase: &str| {
        let ops = document["ops"][phase]["ops"].as_array().expect("operations");
        let large = |o: &&Value| o["macs"] != 0 && number(&o["percent_of_phase"]) >= 2.0;
        ops.iter().filter(large).count()
    };
    assert_eq!(
        read().matches("<circle").count(),
        2 + drawn("prompt") + drawn("generation")
    );
    assert_eq!(read().matches("<text").count(), read().matches("</text>").count());
    let names: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(names.len(), 1, "nothing else is left behind");

    let dir = text(folder.path());
    let lost = in_folder(&folder, "no/such/picture.svg");
    for (path, word) in [
        (dir.as_str(), "a folder"),
        (&lost, "no such folder"),
        ("..", "a folder"),
        ("", "value is required"),
    ] {
        graft(&["bench", "-m", &tiny(), "--svg", path]).failed(2, &[word]);
    }
}
