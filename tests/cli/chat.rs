//! `graft chat`, by pipe.

use super::tools::*;

fn answer(more: &[&str], said: &str) -> String {
    let model = tiny();
    let args = [&["run", "-m", &model, "--chat", "-p", said, "-n", "6"], more].concat();
    graft(&args).text().to_string()
}

fn chat(more: &[&str], input: &str) -> Ran {
    graft_with_input(
        &[&["chat", "-m", &tiny(), "-n", "6", "--temp", "0"], more].concat(),
        input.as_bytes(),
    )
}

#[test]
fn adapters_switch_between_answers() {
    let qv = adapter("qv");
    let named = format!("mine={qv}");
    let (base, adapted) = (answer(&[], "Hi"), answer(&["-a", &qv], "Hi"));
    assert_ne!(base, adapted);
    let got = chat(
        &["-a", &named],
        "Hi\n/reset\n/adapter mine\nHi\n/off\n/reset\nHi\n/exit\nHi\n",
    );
    assert_eq!(got.text(), format!("{base}{adapted}{base}"));
    // Without a name it is on from the start; one can be loaded in between.
    let got = chat(
        &["-a", &qv],
        &format!("Hi\n/off\n/reset\nHi\n/reset\n/adapter late={qv}\nHi\n"),
    );
    assert_eq!(got.text(), format!("{adapted}{base}{adapted}"));
}

#[test]
fn the_conversation_is_remembered() {
    let twice = chat(&[], "Hi\nHi\n");
    let reset = chat(&[], "Hi\n/reset\nHi\n");
    let answer = answer(&[], "Hi");
    assert_eq!(reset.text(), format!("{answer}{answer}"));
    assert_ne!(twice.text(), reset.text());
    let system = chat(&["--system", "Be brief."], "Hi\n");
    assert_ne!(system.text(), answer);
}

#[test]
fn a_long_conversation_goes_on() {
    let got = chat(&["--ctx", "64"], &"Tell me more, please.\n".repeat(12));
    assert_eq!(got.code, 0);
    assert!(got.err.contains("oldest turns were dropped"), "{}", got.err);
    let got = chat(&["--ctx", "64"], &format!("{}\nHi\n", "too long ".repeat(40)));
    assert!(got.err.contains("does not fit the context"), "{}", got.err);
    assert_eq!(got.out, answer(&[], "Hi"), "the conversation goes on without it");
}

#[test]
fn mistakes_are_explained_and_the_conversation_goes_on() {
    let got = chat(
        &[],
        "/nope\n/adapter nobody\n/adapter x=/nowhere\n/adapter\n/help\nHi\n",
    );
    assert_eq!(got.code, 0);
    assert_eq!(got.out, answer(&[], "Hi"));
    for word in [
        "no such command",
        "no such adapter",
        "/nowhere",
        "no adapter was given",
        "/adapter NAME...",
    ] {
        assert!(got.err.contains(word), "{word}: {}", got.err);
    }
    let bad = graft_with_input(&["chat", "-m", &tiny(), "-n", "2"], b"\xff\xfe\n");
    assert!(bad.code == 0 && bad.err.contains("not UTF-8"), "{}", bad.err);
}

#[test]
fn a_model_without_a_template_says_so() {
    let gemma = tiny_file("gemma3/model.gguf");
    let got = graft_with_input(&["chat", "-m", &gemma], b"Hi\n");
    got.failed(1, &["chat template", "graft run"]);
}
