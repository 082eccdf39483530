//! `include/graft.h` is what `src/capi` says: this makes it again and compares. `GRAFT_WRITE=1 cargo test --features capi --test header`
//! writes it, after a change.
//!
//! cbindgen would put all types before all functions. Here each file is made alone, under a heading, so that the header reads object by object.

mod hostile;

use std::fmt::Write;
use std::path::Path;

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

const HEAD: &str = r#"/* Graft: an embedded runtime for quantized language models with PEFT adapters.
 *
 * Made from src/capi by `GRAFT_WRITE=1 cargo test --features capi --test header`: do not edit.
 *
 * What holds for every function:
 *
 * Handles     graft_model, graft_adapter, graft_session, ... are opaque. Who makes one frees it with its `_free`, which takes NULL, in any
 *             order: what still needs an object keeps it, but a generation, which stands still without its session. A handle that is NULL,
 *             was freed, or is of another kind is found out: GRAFT_ERROR_HANDLE, and where `_free` finds it a warning in the log, no more. (One that was freed stays known as such until
 *             some thousand others were freed. A pointer that never was a handle is not found out.)
 * Errors      A function that can fail returns a graft_status, and has a last parameter `error`, which may be NULL. `*error` is written by
 *             every call: NULL, or an error to be freed. On failure no other result is written, and what was there is as it was before, unless
 *             the function says otherwise. A crash or a panic never crosses: a defect is GRAFT_ERROR_INTERNAL, and a session, sampler,
 *             generation, batch or trainer that it left half done is GRAFT_ERROR_POISONED from then on. (In `check(graft_x(..., &error), error)` C may read
 *             the second argument before it makes the call in the first: hand on `&error`.)
 * Threads     Models, adapters, teams, cancel flags and errors may be used by any threads at the same time. A session, a sampler, a
 *             generation, a batch or a trainer by one at a time: a second one gets GRAFT_ERROR_BUSY at once. No function waits for another thread's call.
 * Callbacks   are called by the thread that made the call, unless they say otherwise, with the `user_data` that was given beside them.
 *             They may call every function; the handles of the call they come from are busy. They must not unwind (longjmp, exceptions).
 * Texts       are UTF-8, a pointer and a length in bytes; as the length GRAFT_NUL says that it ends with a NUL. Paths are UTF-8; on Unix any
 *             bytes. They are copied, unless the function says otherwise. A pointer may be NULL where its length is 0.
 * Options     A struct of options starts with its size: set it and the defaults with its `_init`. NULL stands for all defaults. New fields come
 *             only at the end; a library that does not know a field accepts it as long as it is 0, else GRAFT_ERROR_UNSUPPORTED. Of a struct
 *             of facts the caller sets the size alone, `graft_report report = {.struct_size = sizeof report};`, and a library leaves fields
 *             that it does not know as they are.
 * Results     of type char ** and uint32_t ** are to be freed with graft_free; const ones belong to the handle, for as long as is said.
 */
"#;

/// What stands in front of the first declaration of `file`: its `//!`, as a heading.
fn heading(source: &str) -> String {
    let lines = source.lines().take_while(|l| l.starts_with("//!"));
    let text: Vec<_> = lines.map(|l| l.trim_start_matches("//!").trim()).collect();
    let mut out = String::from("\n/* ------------------------------------------------------------------------\n");
    for line in text {
        let _ = writeln!(out, "{}", format!(" * {line}").trim_end());
    }
    out.push_str(" */\n\n");
    out
}

/// The declarations of one file.
fn declarations(path: &Path) -> String {
    let config = Config {
        language: Language::C,
        documentation_style: DocumentationStyle::C99,
        line_length: 100,
        style: Style::Type,
        no_includes: true,
        usize_is_size_t: true,
        ..Config::default()
    };
    let bindings = Builder::new()
        .with_config(config)
        .with_src(path)
        .generate()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// The header as it should be.
fn made() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut header = String::from(HEAD);
    header.push_str("\n#ifndef GRAFT_H\n#define GRAFT_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n");
    // cbindgen knows no name of C's for usize::MAX.
    header
        .push_str("/* As the length of a text: it ends at its first NUL byte. */\n#define GRAFT_NUL ((size_t)-1)\n\n");
    header.push_str("#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    for name in graft::capi::HEADER {
        let path = root.join("src/capi").join(format!("{name}.rs"));
        let source = std::fs::read_to_string(&path).unwrap();
        header.push_str(&heading(&source));
        header.push_str(declarations(&path).trim());
        header.push('\n');
    }
    header.push_str("\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* GRAFT_H */\n");
    header
}

#[test]
fn the_header_is_what_the_source_says() {
    let header = made();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/graft.h");
    if std::env::var_os("GRAFT_WRITE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &header).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == header,
        "include/graft.h is not what src/capi says: GRAFT_WRITE=1 cargo test --features capi --test header"
    );
}

/// What a program that was compiled against the header relies on, a line each: constants, types, functions, and the fields of structs.
fn abi(header: &str) -> Vec<String> {
    let code: Vec<&str> = header
        .lines()
        .map(|l| l.split("//").next().unwrap_or_default().trim())
        .filter(|l| !l.starts_with("/*") && !l.starts_with('*'))
        .collect();
    let mut lines: Vec<String> = code
        .iter()
        .filter_map(|l| l.strip_prefix("#define GRAFT_"))
        .filter(|rest| rest.contains(' '))
        .map(|rest| format!("define GRAFT_{rest}"))
        .collect();
    let code: Vec<_> = code.into_iter().filter(|l| !l.starts_with('#')).collect();
    let code = code.join(" ").replace("extern \"C\" {", "");
    let mut rest = code.as_str();
    while let Some(end) = rest.find(';') {
        // A struct ends behind its closing brace.
        let end = match rest[..end].contains('{') {
            true => rest
                .find('}')
                .map_or(end, |brace| brace + rest[brace..].find(';').unwrap_or(0)),
            false => end,
        };
        let words: Vec<_> = rest[..end].split_whitespace().collect();
        lines.push(words.join(" "));
        rest = &rest[end + 1..];
    }
    lines
}

/// Whether what `old` says is still so in `new`: a struct of options or facts, which begins with its size, may have got more fields.
fn holds(old: &str, new: &[String]) -> bool {
    let grown = |new: &String| match (old.rsplit_once('}'), new.rsplit_once('}')) {
        (Some((old_fields, old_name)), Some((new_fields, new_name))) => {
            old_name == new_name
                && old_fields.contains("size_t struct_size;")
                && new_fields.starts_with(old_fields.trim_end())
        }
        _ => false,
    };
    new.iter().any(|line| line == old || grown(line))
}

/// `include/graft.abi` is what released headers promised; it only grows.
#[test]
fn nothing_that_was_promised_is_gone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let now = abi(&made());
    let path = root.join("include/graft.abi");
    let promised = std::fs::read_to_string(&path).unwrap_or_default();
    let broken: Vec<_> = promised.lines().filter(|old| !holds(old, &now)).collect();
    assert!(
        broken.is_empty(),
        "removed or changed; programs that are out there would break. If that must be, GRAFT_ABI_VERSION goes up and include/graft.abi is made \
         anew:\n{}",
        broken.join("\n")
    );
    let all = now.join("\n") + "\n";
    if std::env::var_os("GRAFT_WRITE").is_some() {
        std::fs::write(&path, &all).unwrap();
    }
    let promised = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        promised == all,
        "include/graft.abi lacks what is new: GRAFT_WRITE=1 cargo test --features capi --test header"
    );
}

#[test]
fn a_change_of_the_interface_is_seen() {
    let new = abi(
        "typedef struct graft_x { size_t struct_size; int32_t a; int32_t b; } graft_x; typedef struct p { int a; } p; void f(int a);",
    );
    assert_eq!(new.len(), 3);
    assert!(holds(
        "typedef struct graft_x { size_t struct_size; int32_t a; } graft_x",
        &new
    ));
    assert!(holds("void f(int a)", &new));
    for gone in [
        "typedef struct graft_x { size_t struct_size; int64_t a; } graft_x",
        "typedef struct graft_x { size_t struct_size; int32_t a; int32_t b; int32_t c; } graft_x",
        "typedef struct p { } p",
        "void f(long a)",
        "void g(void)",
    ] {
        assert!(!holds(gone, &new), "{gone}");
    }
}

/// `tests/capi/hostile.c` is what the header asks for.
#[test]
fn every_function_is_in_the_hostile_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = hostile::program(&abi(&made()));
    let path = root.join("tests/capi/hostile.c");
    if std::env::var_os("GRAFT_WRITE").is_some() {
        std::fs::write(&path, &program).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == program,
        "tests/capi/hostile.c is old: GRAFT_WRITE=1 cargo test --features capi --test header"
    );
}
