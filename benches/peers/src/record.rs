//! Figures as files that can be kept: `YYYY-MM-DD-<cpu>.md` for people, the same as `.json` for programs.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{Options, Result};

/// Writes both files into the folder `dir`, over those of the same day and CPU; gives their paths.
pub fn write(dir: &Path, options: &Options, results: &[Value]) -> Result<[PathBuf; 2]> {
    let facts = facts(options)?;
    let text = |key: &str| facts[key].as_str().unwrap_or("unknown").to_string();
    let stem = format!("{}-{}-{}", text("date"), slug(&text("cpu")), text("graft_level"));
    let document = json!({ "machine": facts, "results": results });
    let files = [
        (dir.join(format!("{stem}.md")), page(&facts, results)),
        (
            dir.join(format!("{stem}.json")),
            serde_json::to_string_pretty(&document)? + "\n",
        ),
    ];
    for (path, text) in &files {
        // Whole or not at all: the old record is not lost to a full disk.
        let part = path.with_extension("part");
        let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path));
        written.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(files.map(|(path, _)| path))
}

/// What the figures depend on.
fn facts(options: &Options) -> Result<Value> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(json!({
        "date": date(seconds / 86400),
        "cpu": graft::machine::cpu_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
        "arch": std::env::consts::ARCH,
        "threads": options.threads,
        "rounds": options.rounds,
        "graft": commit(),
        "graft_level": graft::kernels::Cpu::new(Some(1))?.isa(),
        "llama.cpp": format!("llama-cpp-2 0.1.160, built with {}", env!("CMAKE_C_FLAGS")),
    }))
}

/// The commit that was measured, with a mark if files differ from it.
fn commit() -> String {
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
        .output();
    match git {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_string(),
        _ => "unknown".into(),
    }
}

fn page(facts: &Value, results: &[Value]) -> String {
    let fact = |key: &str| {
        facts[key]
            .as_str()
            .map_or_else(|| facts[key].to_string(), str::to_string)
    };
    let mut page = format!(
        "# {}, {}\n\n\
         {}, {} threads for each engine, {} rounds, alternating. Graft {} at level {}; {}.\n\
         Tokens a second: median (10th to 90th percentile); the ratio is taken within a round.\n\n\
         | model | test | Graft | llama.cpp | ratio |\n|---|---|---|---|---|\n",
        fact("date"),
        fact("cpu"),
        fact("arch"),
        fact("threads"),
        fact("rounds"),
        fact("graft"),
        fact("graft_level"),
        fact("llama.cpp"),
    );
    for result in results {
        let model = result["model"].as_str().unwrap_or("?");
        let tests = result.as_object().into_iter().flatten().filter(|(_, v)| v.is_object());
        for (test, figures) in tests {
            let cell = |of: &str, digits: usize| {
                let number = |key: &str| figures[of][key].as_f64();
                match (number("median"), number("p10"), number("p90")) {
                    (Some(m), Some(low), Some(high)) => format!("{m:.digits$} ({low:.digits$} to {high:.digits$})"),
                    _ => "-".into(),
                }
            };
            let (graft, llama, ratio) = (cell("graft", 1), cell("llama.cpp", 1), cell("ratio", 2));
            let _ = writeln!(page, "| {model} | {test} | {graft} | {llama} | {ratio} |");
        }
    }
    page
}

/// A name as part of a file's name: `AMD EPYC 9R14` is `amd-epyc-9r14`.
fn slug(name: &str) -> String {
    let plain = name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), " ");
    plain.split_whitespace().collect::<Vec<_>>().join("-")
}

/// The day `days` after 1970-01-01 as YYYY-MM-DD.
fn date(days: u64) -> String {
    let (mut year, mut rest) = (1970, days);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in months {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: `date -u -d @SECONDS +%F`.
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_603_200, "2024-12-31"),
            (1_795_478_400, "2026-11-24"),
        ] {
            assert_eq!(date(seconds / 86400), want);
        }
    }

    #[test]
    fn names_of_cpus_are_names_of_files() {
        assert_eq!(
            slug("Intel(R) Core(TM) i7-1065G7 CPU @ 1.30GHz"),
            "intel-r-core-tm-i7-1065g7-cpu-1-30ghz"
        );
        assert_eq!(slug("../../x"), "x");
    }

    #[test]
    fn the_page_has_a_row_for_each_test() {
        let spread = json!({ "median": 2.0, "p10": 1.5, "p90": 2.3 });
        let results = [json!({
            "model": "m.gguf", "threads": 2,
            "pp512": { "llama.cpp": spread, "graft": spread, "ratio": spread },
            "tg64": { "llama.cpp": spread },
        })];
        let page = page(&json!({ "date": "2026-11-24", "cpu": "X" }), &results);
        assert!(page.starts_with("# 2026-11-24, X\n"));
        assert!(
            page.contains("| m.gguf | pp512 | 2.0 (1.5 to 2.3) | 2.0 (1.5 to 2.3) | 2.00 (1.50 to 2.30) |\n"),
            "{page}"
        );
        assert!(
            page.ends_with("| m.gguf | tg64 | - | 2.0 (1.5 to 2.3) | - |\n"),
            "{page}"
        );
    }
}
