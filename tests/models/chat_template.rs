//! Chat templates: renderings equal to transformers' byte for byte, and misbehaving
//! templates.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use minijinja::Value;
use serde::Deserialize;
use wgpt::internals::checkpoint::{Folder, TokenizerConfig};
use wgpt::{ChatTemplate, Error, TemplateInput};

const GOLDEN: &str = "tests/golden/chat";

/// A rendering by transformers; values of minijinja keep the order of a map's keys.
#[derive(Deserialize)]
struct Case {
    case: String,
    messages: Value,
    variables: BTreeMap<String, Value>,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

impl Case {
    fn input(&self) -> TemplateInput {
        let input = TemplateInput::new(&self.messages);
        let input =
            self.variables.iter().fold(input, |input, (name, value)| input.with_variable(name, value));
        if self.add_generation_prompt { input.with_generation_prompt() } else { input }
    }
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(GOLDEN).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

fn template(folder: &Path, name: Option<&str>) -> ChatTemplate {
    let config = TokenizerConfig::of(&Folder::Dir(folder.to_owned())).unwrap();
    let template = config.template(name).unwrap();
    ChatTemplate::new(&template.file, &template.source, config.special_tokens()).unwrap()
}

#[test]
fn renderings_match_transformers_byte_for_byte() {
    let (mut equal, mut refused) = (0, 0);
    for folder in folders() {
        let cases: Vec<Case> = serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
        for case in cases {
            let name = case.variables.contains_key("tools").then_some("tool_use");
            let named = folder.ends_with("several-templates").then_some(name).flatten();
            let rendered = template(&folder, named).render(&case.input());
            let label = format!("{}: {}, {}", folder.display(), case.case, case.add_generation_prompt);
            match (case.text, case.error) {
                (Some(text), None) => {
                    assert_eq!(rendered.unwrap_or_else(|error| panic!("{label}: {error}")), text, "{label}");
                    equal += 1;
                }
                (None, Some(message)) => {
                    let error = rendered.expect_err(&label);
                    assert!(error.to_string().ends_with(&message), "{label}: {error}");
                    assert!(matches!(error, Error::Input(_)), "{label}: {error:?}");
                    refused += 1;
                }
                _ => panic!("{label}: text or error"),
            }
        }
    }
    assert!(equal > 200 && refused > 20, "{equal} {refused}");
}

fn compile(source: &str) -> wgpt::Result<ChatTemplate> {
    ChatTemplate::new("my.jinja", source, &BTreeMap::<String, String>::new())
}

fn hello() -> TemplateInput {
    TemplateInput::new(&[BTreeMap::from([("role", "user"), ("content", "Hello")])])
}

/// Returns the message for a template that is refused when it is compiled or rendered.
#[track_caller]
fn fault(source: &str) -> String {
    let error = compile(source).and_then(|template| template.render(&hello())).unwrap_err();
    assert!(matches!(&error, Error::Model { file, .. } if file == "my.jinja"), "{error:?}");
    error.to_string()
}

#[test]
fn errors_name_file_line_and_remedy() {
    for (source, expected) in [
        ("a\n{% for x in %}", "line 2: syntax error: "),
        ("a\n\n{% if true %}", "line 3: syntax error: "),
        ("{% generation %}a", "line 1: syntax error: "),
        ("a\n{{ messages | no_such_filter }}", "line 2: unknown filter: filter no_such_filter is unknown"),
        ("{{ 1 is no_such_test }}", "line 1: unknown test: "),
        ("{{ no_such_function() }}", "line 1: unknown function: no_such_function is unknown"),
        ("{{ 'a'.no_such_method() }}", "line 1: unknown method: string has no method named no_such_method"),
        ("\n{{ messages[0].content + 1 }}", "line 2: invalid operation: "),
        ("{{ absent.attribute }}", "line 1: undefined value"),
        ("{% include 'passwd' %}", "line 1: syntax error: unknown statement include"),
        ("{{ messages | tojson(indent=[]) }}", "line 1: invalid operation: tojson: indent"),
        (
            "{{ messages | tojson(colour=1) }}",
            "line 1: too many arguments: unknown keyword argument 'colour'",
        ),
    ] {
        let message = fault(source);
        assert!(message.starts_with(&format!("my.jinja: {expected}")), "{source}: {message}");
        assert!(
            message.ends_with(": correct the template, or give another one (ChatTemplate::new)"),
            "{message}"
        );
    }
    let control = fault("{{ 'a' | no\u{202e}\u{1b}[2J }}");
    assert!(!control.contains('\u{1b}'), "{control:?}");
}

#[test]
fn endless_templates_are_stopped() {
    let forever = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}";
    assert!(fault(forever).contains("recursion limit"), "{}", fault(forever));
    let work = "the chat template takes more work than a conversation needs";
    let loops = "{% for a in range(9999) %}".repeat(3) + &"{% endfor %}".repeat(3);
    for source in [
        loops.as_str(),
        // Values whose size doubles.
        "{% set ns = namespace(x='x' * 99) %}{% for i in range(999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(25) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | tojson }}",
        "{{ 'x' * 99999999999 }}",
        "{{ ('x' * 9999).replace('', 'y' * 99999) }}",
    ] {
        let message = fault(source);
        assert!(message.contains(work), "{source}: {message}");
    }
    assert!(
        fault("{{ range(999999999) | list }}").contains("range"),
        "{}",
        fault("{{ range(999999999) | list }}")
    );
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for source in [
        "{{ ".to_owned() + &"(".repeat(100_000),
        "{{ ".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000) + " }}",
        "{{ ".to_owned() + &"not ".repeat(100_000) + "1 }}",
        "{% if 1 %}".repeat(100_000),
        "{{ 1".to_owned() + &" + 1".repeat(100_000) + " }}",
        "{{ 1".to_owned() + &"|string".repeat(100_000) + " }}",
        "{{ messages".to_owned() + &"[0]".repeat(100_000) + " }}",
        "{% for x in y recursive %}".repeat(1_000),
        "{{ 1".to_owned() + &"~1".repeat(100_000) + " }}",
    ] {
        let _ = fault(&source);
    }
    // Values nested as deeply as the work limit allows.
    for (wrap, show) in [
        ("[ns.x]", ""),
        ("{'a': ns.x}", ""),
        ("[ns.x]", "{{ ns.x }}"),
        ("[ns.x]", "{{ ns.x | tojson }}"),
        ("{'a': ns.x}", "{{ ns.x | tojson(sort_keys=true) }}"),
    ] {
        let source = format!(
            "{{% set ns = namespace(x=1) %}}{{% for i in range(99999) %}}{{% set ns.x = {wrap} %}}{{% endfor %}}{show}"
        );
        let _ = compile(&source).unwrap().render(&hello());
    }
}

#[test]
fn built_in_templates_render() {
    let messages = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")];
    let messages = messages.map(|(role, content)| BTreeMap::from([("role", role), ("content", content)]));
    let input = TemplateInput::new(&messages).with_generation_prompt();
    let render = |name| compile(ChatTemplate::built_in(name).unwrap()).unwrap().render(&input).unwrap();
    assert_eq!(
        render("chatml"),
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n\
         <|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(render("plain"), "Be kind.\n\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:");
    assert_eq!(ChatTemplate::BUILT_IN, ["chatml", "plain"]);
    assert!(ChatTemplate::built_in("other").is_none());
}
