//! `tests/capi/hostile.c`, made from the header: a program that calls every function with every wrong thing in every place.
//!
//! Each function is called once with good arguments, then, for each parameter, with what is wrong for its type and all others good: NULL, a
//! pointer that is not aligned, a handle of another kind, a freed one, a struct of a wrong size, a number that stands for nothing. The
//! program checks that it gets a status, that it is no success where it cannot be one, and that an error is there exactly where one is due.

use std::fmt::Write;

const HEAD: &str = include_str!("../capi/hostile.head.inc");

struct Parameter<'a> {
    /// Such as `const graft_model *`.
    of: &'a str,
    name: &'a str,
}

struct Function<'a> {
    result: &'a str,
    name: &'a str,
    parameters: Vec<Parameter<'a>>,
}

/// A C declaration taken apart at its last name.
fn named(text: &str) -> (&str, &str) {
    let at = text
        .rfind(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(0, |i| i + 1);
    (text[..at].trim(), &text[at..])
}

fn functions(abi: &[String]) -> Vec<Function<'_>> {
    let lines = abi
        .iter()
        .filter(|l| !l.starts_with("typedef") && !l.starts_with("define"));
    let parse = |line: &str| -> Option<(usize, usize)> { Some((line.find('(')?, line.rfind(')')?)) };
    lines
        .filter_map(|line| {
            let (open, close) = parse(line)?;
            let (result, name) = named(&line[..open]);
            let parameters = line[open + 1..close].split(", ").filter(|p| *p != "void");
            let parameters = parameters.map(|p| {
                let (of, name) = named(p);
                Parameter { of, name }
            });
            Some(Function {
                result,
                name,
                parameters: parameters.collect(),
            })
        })
        .collect()
}

/// The kinds of handles, each with a variable of its name in the program.
const HANDLES: [&str; 10] = [
    "error",
    "cancel",
    "team",
    "model",
    "adapter",
    "session",
    "sampler",
    "generation",
    "batch",
    "trainer",
];

impl Parameter<'_> {
    /// The kind, where it is a handle.
    fn handle(&self) -> Option<&'static str> {
        let of = self.of.trim_start_matches("const ");
        let kind = of.strip_prefix("graft_")?.strip_suffix(" *")?;
        HANDLES.into_iter().find(|h| *h == kind)
    }

    /// The type, where it is a struct that begins with its size.
    fn sized(&self) -> Option<&str> {
        let of = self.of.trim_start_matches("const ").strip_suffix(" *")?;
        let ends = ["_options", "_info", "_plan", "_report"];
        (of.starts_with("graft_") && ends.iter().any(|e| of.ends_with(e))).then_some(of)
    }

    fn is_out(&self) -> bool {
        self.of.ends_with('*') && !self.of.starts_with("const") || self.of.ends_with("**")
    }

    /// An expression that is right.
    fn good(&self, function: &Function) -> String {
        if let Some(handle) = self.handle() {
            return match function.name.ends_with("_free") || function.name.starts_with("graft_error_") {
                true => format!("fresh_{handle}()"),
                false => format!("good_{handle}"),
            };
        }
        if let Some(of) = self.sized() {
            return format!("good_{of}()");
        }
        let at = function
            .parameters
            .iter()
            .position(|p| p.name == self.name)
            .unwrap_or(0);
        let before = |n: usize| at.checked_sub(n).map_or("", |i| function.parameters[i].of);
        match (self.of, self.name) {
            ("graft_error **", "error") => "&error".into(),
            ("const char *", "format") => "\"F16\"".into(),
            ("const char *", "adapter" | "folder") => "adapter_path".into(),
            ("const char *", "key") => "\"general.architecture\"".into(),
            ("const char *", "path") => match function.name {
                "graft_model_open" | "graft_plan_memory" => "model_path".into(),
                "graft_adapter_open" | "graft_trainer_open" => "adapter_path".into(),
                "graft_trainer_resume" => "checkpoint_path".into(),
                "graft_session_restore" => "state_path".into(),
                _ => format!("out_path(\"{}\")", function.name),
            },
            ("const char *", "line") => "\"{\\\"prompt\\\": \\\"Once\\\", \\\"max_tokens\\\": 2}\"".into(),
            ("const char *", "input") => "lines_path".into(),
            ("const char *", "output") => format!("new_path(\"{}\")", function.name),
            ("const char *", _) => "\"Once upon a time\"".into(),
            ("size_t", _) if before(1) == "const char *" => "GRAFT_NUL".into(),
            ("const void *", "data") => "model_bytes".into(),
            ("const void *", "config") => "config_bytes".into(),
            ("const void *", "tensors") => "tensor_bytes".into(),
            ("size_t", "len") => "model_len".into(),
            ("size_t", "config_len") => "config_len".into(),
            ("size_t", "tensors_len") => "tensors_len".into(),
            ("size_t", "struct_size") => format!("sizeof({})", before(1).trim_end_matches(" *")),
            ("const uint32_t *", _) => "some_tokens".into(),
            ("size_t", "n_tokens") => "3".into(),
            ("const uint8_t *", _) => "state_bytes".into(),
            ("size_t", "n_bytes") => "state_len".into(),
            ("float *", _) => "vector".into(),
            ("size_t", "n_vector") => "hidden_size".into(),
            ("const graft_adapter *const *", _) => "some_adapters".into(),
            ("const graft_text *", _) => "some_folders".into(),
            ("const float *", _) => "some_weights".into(),
            ("const graft_message *", _) => "some_messages".into(),
            ("const graft_row *", _) => "some_rows".into(),
            ("size_t", "n_rows") => "2".into(),
            ("size_t", "n" | "n_messages") => "1".into(),
            ("size_t", "index") | ("uint64_t", _) => "0".into(),
            ("int32_t", "fd") => "model_fd".into(),
            ("double" | "float", _) => "0.5".into(),
            ("uint32_t", "threads") => "1".into(),
            ("uint32_t" | "int32_t" | "graft_status" | "graft_pooling" | "graft_log_level", _) => "0".into(),
            ("void *", "memory" | "user_data" | "release_user_data") => "NULL".into(),
            ("graft_release_callback", _) => "on_release".into(),
            (of, _) if of.ends_with("_callback") => {
                format!("on_{}", of.trim_start_matches("graft_").trim_end_matches("_callback"))
            }
            (of, _) if self.is_out() && of.ends_with("**") => "(void *)&results[0]".into(),
            (_, name) if self.is_out() => format!(
                "(void *)&results[{}]",
                1 + usize::from(name.starts_with("n_") || name.ends_with("len"))
            ),
            (of, name) => panic!("{}: nothing to pass for {of}{name}", function.name),
        }
    }

    /// Expressions that are wrong, and whether the call cannot succeed with them.
    fn bad(&self) -> Vec<(String, bool)> {
        let mut bad = Vec::new();
        let mut add = |text: &str, fails: bool| bad.push((text.to_owned(), fails));
        let optional = self
            .sized()
            .is_some_and(|of| of.ends_with("_options") || of.ends_with("_report"))
            || matches!(
                self.name,
                "weights" | "text_len" | "json_len" | "record_len" | "token" | "report" | "name" | "n_rows" | "folder"
            )
            || matches!(self.handle(), Some("error"));
        if self.name == "error" && self.of.ends_with("**") {
            add("NULL", false);
            return bad;
        }
        if let Some(kind) = self.handle() {
            add("NULL", true);
            add("odd", true);
            add(&format!("freed_{kind}"), true);
            for other in HANDLES.iter().filter(|other| **other != kind) {
                add(&format!("(void *)good_{other}"), true);
            }
            return bad;
        }
        if let Some(of) = self.sized() {
            for size in [
                "0",
                "1",
                "7",
                &format!("sizeof({of}) - 4"),
                &format!("sizeof({of}) + 3"),
                "100000",
                "(size_t)-1",
            ] {
                add(&format!("sized({size})"), true);
            }
            // A later version of the struct, with a field set that this one does not know.
            add(&format!("longer(sizeof({of}), 0)"), false);
            add(&format!("longer(sizeof({of}), 1)"), self.of.starts_with("const"));
        }
        match self.of {
            of if of.ends_with('*') && self.name != "memory" && !self.name.ends_with("user_data") => {
                add("NULL", !optional);
                if of != "const char *" && of != "const void *" && of != "const uint8_t *" && !of.starts_with("char") {
                    add("odd", true);
                }
                if of == "const char *" {
                    add("\"\\xff\\xfe\"", false);
                    add("\"\"", false);
                }
            }
            "int32_t" | "uint32_t" | "graft_status" | "graft_pooling" | "graft_log_level" => {
                for n in ["-1", "77", "2147483647"] {
                    add(n, false);
                }
            }
            "uint64_t" => {
                for n in ["1", "1000000", "18446744073709551615u"] {
                    add(n, false);
                }
            }
            "float" => {
                for (n, fails) in [
                    ("0", false),
                    ("-1", false),
                    ("(float)(0 / zero)", true),
                    ("(float)(1 / zero)", true),
                ] {
                    add(n, fails);
                }
            }
            "double" => {
                for n in ["0", "-1", "0.0 / zero", "1e308"] {
                    add(n, false);
                }
            }
            "size_t" if self.name == "index" => add("(size_t)-1", true),
            "size_t" if self.name == "struct_size" => {
                for n in ["0", "7", "8"] {
                    add(n, false);
                }
            }
            "size_t" => add("0", false),
            of if of.ends_with("_callback") => add("NULL", false),
            _ => {}
        }
        bad
    }
}

/// The program.
pub fn program(abi: &[String]) -> String {
    let mut out =
        String::from("/* Made from include/graft.h by tests/header/hostile.rs and hostile.head.inc: do not edit. */\n");
    out.push_str(HEAD);
    let functions = functions(abi);
    for f in &functions {
        let _ = writeln!(out, "\nstatic void test_{}(void) {{", f.name);
        let good: Vec<_> = f.parameters.iter().map(|p| p.good(f)).collect();
        let call = |out: &mut String, arguments: &[String], label: &str, fails: bool| {
            let call = format!("{}({})", f.name, arguments.join(", "));
            let label = label.replace('\\', "\\\\").replace('"', "\\\"");
            let status = f.result == "graft_status" && !f.name.starts_with("graft_error_");
            let has_error = arguments.iter().any(|a| a == "&error");
            let _ = match status {
                true => writeln!(
                    out,
                    "    check({call}, \"{} {label}\", {}, {});",
                    f.name,
                    u8::from(fails),
                    u8::from(has_error)
                ),
                false => writeln!(
                    out,
                    "    begin();\n    {}{call};\n    survived(\"{} {label}\");",
                    if f.result == "void" { "" } else { "(void)" },
                    f.name
                ),
            };
        };
        call(&mut out, &good, "as it should be", false);
        for (i, p) in f.parameters.iter().enumerate() {
            for (bad, fails) in p.bad() {
                let mut arguments = good.clone();
                // A count that belongs to a pointer that is not there must not be believed; one without its pointer is no error.
                arguments[i].clone_from(&bad);
                let label = format!("{} = {bad}", p.name);
                call(&mut out, &arguments, &label, fails && f.result == "graft_status");
            }
        }
        out.push_str("}\n");
    }
    out.push_str("\nint main(int argc, char **argv) {\n    prepare(argc, argv);\n");
    for f in &functions {
        let _ = writeln!(out, "    test_{}();", f.name);
    }
    out.push_str("    return finish();\n}\n");
    out
}
