//! `config.json` as a file; its accessors are tested where they are defined.

use std::fs;
use std::path::Path;

use wgpt::internals::checkpoint::ConfigJson;

#[test]
fn a_config_file_that_is_no_object_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let text = |path: &Path| ConfigJson::from_file(path).unwrap_err().to_string();
    assert!(text(&path).starts_with("cannot open "));
    assert!(text(dir.path()).contains("expected a file, found a directory"));
    let cases = [
        ("{\"n_layer\": 12,\n}", "not valid JSON: trailing comma at line 2 column 1"),
        ("", "not valid JSON: EOF while parsing a value at line 1 column 0"),
        ("[1, 2]", "expected a JSON object, found [1,2]"),
        ("\"text\"", "expected a JSON object, found \"text\""),
        ("{\"eps\": Infinity}", "not valid JSON"),
    ];
    for (content, expected) in cases {
        fs::write(&path, content).unwrap();
        assert!(text(&path).contains("config.json: ") && text(&path).contains(expected), "{}", text(&path));
    }
    fs::write(&path, "[".repeat(100_000)).unwrap();
    assert!(text(&path).contains("recursion limit"), "{}", text(&path));
    fs::write(&path, vec![b' '; 5 << 20]).unwrap();
    assert!(text(&path).contains("has more than 4194304 bytes"), "{}", text(&path));
    fs::write(&path, [b'{', 0xFF, b'}']).unwrap();
    assert!(text(&path).contains("not valid JSON"), "{}", text(&path));
    fs::write(&path, "{\"n_layer\": 12}").unwrap();
    assert_eq!(ConfigJson::from_file(&path).unwrap().usize("n_layer", 1..=99).unwrap(), 12);
}
