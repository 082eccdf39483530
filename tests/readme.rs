//! The README's table of what Graft reads is the code's own.

fn row(name: &str) -> Vec<String> {
    let readme = include_str!("../README.md");
    let line = readme.lines().find(|l| l.starts_with(&format!("| {name} |")));
    let line = line.unwrap_or_else(|| panic!("the README has no row {name}"));
    // The names are the words in backquotes.
    line.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

#[test]
fn block_formats_are_the_tables() {
    let known: Vec<_> = graft::quant::FORMATS.iter().map(|f| f.name).collect();
    assert_eq!(row("Block formats"), known);
}

#[test]
fn architectures_are_the_tables() {
    let known: Vec<_> = graft::model::ARCHS.iter().map(|a| a.name).collect();
    assert_eq!(row("Architectures"), known);
}
