//! `config.json` as a file; its accessors are tested where they are defined.

use std::fs;

use wgpt::internals::checkpoint::{ConfigJson, Folder};

#[test]
fn a_config_file_that_is_not_an_object_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let folder = Folder::Dir(dir.path().to_owned());
    let text = || ConfigJson::of(&folder).unwrap_err().to_string();
    assert!(text().starts_with("cannot open "));
    fs::create_dir(&path).unwrap();
    assert!(text().contains("expected a file, found a directory"));
    fs::remove_dir(&path).unwrap();
    let cases = [
        ("{\"n_layer\": 12,\n}", "not valid JSON: trailing comma at line 2 column 1"),
        ("", "not valid JSON: EOF while parsing a value at line 1 column 0"),
        ("[1, 2]", "expected a JSON object, found [1,2]"),
        ("\"text\"", "expected a JSON object, found \"text\""),
        ("{\"eps\": Infinity}", "not valid JSON"),
    ];
    for (content, expected) in cases {
        fs::write(&path, content).unwrap();
        assert!(text().contains("config.json: ") && text().contains(expected), "{}", text());
    }
    fs::write(&path, "[".repeat(100_000)).unwrap();
    assert!(text().contains("recursion limit"), "{}", text());
    fs::write(&path, vec![b' '; 5 << 20]).unwrap();
    assert!(text().contains("has more than 4194304 bytes"), "{}", text());
    fs::write(&path, [b'{', 0xFF, b'}']).unwrap();
    assert!(text().contains("not valid JSON"), "{}", text());
    fs::write(&path, "{\"n_layer\": 12}").unwrap();
    assert_eq!(ConfigJson::of(&folder).unwrap().usize("n_layer", 1..=99).unwrap(), 12);
}
