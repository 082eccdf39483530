//! Values as Python prints them (`str`, `json.dumps`): chat templates are written for it.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Nesting that is printed; deeper values are an error, not a stack overflow.
const MAX_DEPTH: usize = 64;

/// The longest text of a value: a list made by arithmetic takes no memory until it is printed.
const MAX_TEXT: usize = 16 << 20;

/// Refuses values that would take too much stack or memory to print.
fn check(out: &str, depth: usize) -> Result<(), Error> {
    let problem = if depth > MAX_DEPTH {
        "the value is nested too deeply"
    } else if out.len() > MAX_TEXT {
        "the value is too large to print"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidOperation, problem))
}

/// `str(value)`.
pub(super) fn display(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    repr(value, &mut out, 0)?;
    Ok(out)
}

/// `repr(value)`, onto the end of `out`.
fn repr(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    check(out, depth)?;
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => number(value, out)?,
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut items = 0;
            for item in value.try_iter()? {
                if items > 0 {
                    out.push_str(", ");
                }
                repr(&item, out, depth + 1)?;
                items += 1;
            }
            if items == 1 && value.is_tuple() {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (n, key) in value.try_iter()?.enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                repr(&key, out, depth + 1)?;
                out.push_str(": ");
                repr(&value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// A string in quotes: single ones, unless that would need escapes that double ones don't.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn number(value: &Value, out: &mut String) -> Result<(), Error> {
    if value.is_integer() {
        out.push_str(&value.to_string());
    } else {
        out.push_str(&float(f64::try_from(value.clone())?));
    }
    Ok(())
}

/// `repr` of a float: the shortest digits that give it back; an exponent below 1e-4 and from 1e16.
fn float(f: f64) -> String {
    if !f.is_finite() {
        return if f.is_nan() {
            "nan"
        } else if f > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let scientific = format!("{f:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=15 => {
            let plain = format!("{f}");
            if plain.contains('.') { plain } else { plain + ".0" }
        }
        e => format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs()),
    }
}

/// The options of `json.dumps`.
#[derive(Default)]
pub(super) struct JsonStyle {
    /// Escape everything outside ASCII.
    pub ascii: bool,
    /// Spaces per level; without it everything is on one line.
    pub indent: Option<usize>,
    /// Between items and behind keys, where they are not the usual.
    pub separators: Option<(String, String)>,
    /// Keys in order.
    pub sort: bool,
}

/// `json.dumps(value)`.
pub(super) fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    dump(value, style, &mut out, 0)?;
    Ok(out)
}

fn dump(value: &Value, style: &JsonStyle, out: &mut String, depth: usize) -> Result<(), Error> {
    check(out, depth)?;
    let (comma, colon) = match (&style.separators, style.indent) {
        (Some((comma, colon)), _) => (comma.as_str(), colon.as_str()),
        (None, Some(_)) => (",", ": "),
        (None, None) => (", ", ": "),
    };
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let mut text = String::new();
            number(value, &mut text)?;
            out.push_str(match text.as_str() {
                "nan" => "NaN",
                "inf" => "Infinity",
                "-inf" => "-Infinity",
                text => text,
            });
        }
        ValueKind::String => escape(value.as_str().unwrap_or_default(), style.ascii, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut any = false;
            out.push('[');
            for item in value.try_iter()? {
                if any {
                    out.push_str(comma);
                }
                any = true;
                line(out, depth + 1);
                dump(&item, style, out, depth + 1)?;
            }
            if any {
                line(out, depth);
            }
            out.push(']');
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort {
                keys.sort();
            }
            out.push('{');
            for (n, key) in keys.iter().enumerate() {
                if n > 0 {
                    out.push_str(comma);
                }
                line(out, depth + 1);
                match key.as_str() {
                    Some(text) => escape(text, style.ascii, out),
                    None => {
                        out.push('"');
                        dump(key, style, out, depth + 1)?;
                        out.push('"');
                    }
                }
                out.push_str(colon);
                dump(&value.get_item(key)?, style, out, depth + 1)?;
            }
            if !keys.is_empty() {
                line(out, depth);
            }
            out.push('}');
        }
        kind => {
            let message = format!("a value of type {kind} cannot be written as JSON");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    }
    Ok(())
}

fn escape(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || (ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: what Python 3 prints for the same values.
    #[test]
    fn floats() {
        let cases = [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1.25e-5, "1.25e-05"),
            (0.1, "0.1"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (f, text) in cases {
            assert_eq!(float(f), text);
        }
    }

    #[test]
    fn values() {
        let value = serde_json::json!({"b": [1, 2.0, null, true], "a": "it's \"é\"\n", "c": {}, "d": []});
        let value = Value::from(minijinja::value::Serde(&value));
        assert_eq!(
            display(&value).unwrap(),
            r#"{'b': [1, 2.0, None, True], 'a': 'it\'s "é"\n', 'c': {}, 'd': []}"#
        );
        let mut style = JsonStyle::default();
        assert_eq!(
            json(&value, &style).unwrap(),
            r#"{"b": [1, 2.0, null, true], "a": "it's \"é\"\n", "c": {}, "d": []}"#
        );
        style.ascii = true;
        style.sort = true;
        style.indent = Some(2);
        assert_eq!(
            json(&value, &style).unwrap(),
            "{\n  \"a\": \"it's \\\"\\u00e9\\\"\\n\",\n  \"b\": [\n    1,\n    2.0,\n    null,\n    true\n  ],\n  \"c\": {},\n  \"d\": []\n}"
        );
    }
}
