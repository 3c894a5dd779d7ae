//! `wgpt perplexity`: its figures against those of transformers, and its outputs.

use serde_json::Value;

use crate::models::{Model, repository};
use crate::program::{wgpt, wgpt_with};

#[test]
fn figures_match_transformers() {
    let text = repository("tests/golden/demo-excerpt.txt");
    let golden = std::fs::read(repository("tests/golden/demo-perplexity.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let cases = golden["f64"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let stride = case["stride"].to_string();
        let args = ["--stride", &stride, "--json", "--dtype", "f32", "--kv-dtype", "f32"];
        let report = wgpt(&[&["perplexity", text.to_str().unwrap()], &args[..]].concat()).json();
        for field in ["nll", "perplexity"] {
            let (found, expected) = (report[field].as_f64().unwrap(), case[field].as_f64().unwrap());
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "stride {stride}, {field}: {found}, not {expected}"
            );
        }
        for field in ["tokens_scored", "stride"] {
            assert_eq!(report[field], case[field], "{field}");
        }
        assert_eq!(report["n_tokens"], golden["text"]["n_tokens"]);
        assert_eq!([&report["protocol"], &report["dtype"], &report["kv_dtype"]], ["hf", "f32", "f32"]);
        assert_eq!((&report["context"], &report["complete"]), (&golden["window"], &Value::Bool(true)));
        assert!(report["device"]["name"].is_string() && report["model"] == "demo");
    }
}

/// The other protocols, at the model's context. The tests of `wgpt-eval` have all cases.
#[test]
fn every_protocol_can_be_chosen_by_name() {
    let golden = std::fs::read(repository("tests/golden/perplexity.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let cases = golden["models"]["demo"]["cases"].as_array().unwrap();
    let stories = &["--documents", "<|endoftext|>"][..];
    for (protocol, more, bos, label) in [
        ("llama", &[][..], Value::Null, "none"),
        ("llama", &["--bos", "always"], 0.into(), "substituted"),
        ("lm-eval", stories, 0.into(), "prefixed"),
        ("segments", stories, 0.into(), "prefixed"),
    ] {
        let case = cases
            .iter()
            .find(|case| case["protocol"] == protocol && case["context"] == 512 && case["bos"] == bos);
        let case = case.unwrap();
        let file = repository("tests/golden/demo-excerpt.txt");
        let args = ["perplexity", file.to_str().unwrap(), "--protocol", protocol, "--json"];
        let report = wgpt(&[&args, more, &["--dtype", "f32", "--kv-dtype", "f32"]].concat()).json();
        let (found, expected) = (report["nll"].as_f64().unwrap(), case["nll"].as_f64().unwrap());
        assert!((found / expected - 1.0).abs() < 1e-4, "{protocol}: {found}, not {expected}");
        assert_eq!(report["tokens_scored"], case["tokens_scored"]);
        assert_eq!([&report["protocol"], &report["bos"]], [protocol, label]);
        assert_eq!(report["data_sha256"], golden["text"]["sha256"]);
        assert_eq!(report["model_sha256"], golden["models"]["demo"]["model_sha256"]);
        assert_eq!(report["bos_token"], bos);
        if protocol == "lm-eval" {
            assert_eq!(report["words_scored"], case["words_scored"]);
        }
    }
}

const STORY: &str = "Once upon a time there was a dog.";

#[test]
fn text_goes_to_stdout() {
    let lines = |args: &[&str]| {
        let run = wgpt_with(&[&["perplexity", "-"], args].concat(), STORY, &[]).ok();
        run.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let labels = [
        "perplexity",
        "mean NLL",
        "bits per byte",
        "bits per word",
        "tokens scored",
        "protocol",
        "context",
        "begin of text",
    ];
    let hf = lines(&["-c", "16"]);
    assert_eq!(hf.len(), labels.len(), "{hf:#?}");
    for (line, label) in hf.iter().zip(labels) {
        assert!(line.starts_with(label), "{hf:#?}");
    }
    assert!(hf[0].contains(" +/- ") && hf[2].ends_with("bytes)") && hf[3].contains(" (7 words)"), "{hf:#?}");
    assert!(hf[4].contains("in 1 document and 1 window") && hf[5].ends_with(" hf"), "{hf:#?}");
    assert!(hf[6].ends_with("16 tokens, stride 8") && hf[7].ends_with("none"), "{hf:#?}");

    let llama = lines(&["--protocol", "llama", "-c", "4"]);
    let last = llama.last().unwrap();
    assert!(last.starts_with("Final estimate: PPL = ") && last.contains(" +/- "), "{llama:#?}");
    let rolling = lines(&["--protocol", "lm-eval"]);
    for label in ["word_perplexity", "byte_perplexity", "bits_per_byte"] {
        assert!(rolling.iter().any(|line| line.starts_with(label)), "{rolling:#?}");
    }
    assert!(rolling.last().unwrap().ends_with("token 0 before each document"), "{rolling:#?}");
}

#[test]
fn tokens_are_listed_as_table_json_and_csv() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("tokens.csv");
    // An emoji that the vocabulary has only as bytes, a quote, a newline.
    let text = "A \"cat\"\nsaw \u{1f389}, and <script>alert(1)</script>.";
    let args = ["perplexity", "-", "--tokens-table", "--csv", csv.to_str().unwrap()];
    let table = wgpt_with(&args, text, &[]).ok().stdout;
    assert!(table.contains("| document | index | token ") && table.contains("* dominates: "), "{table}");
    assert!(table.contains("\"<0xF0>\"") && table.contains("\"\\n\""), "{table}");

    let report = wgpt_with(&[&args[..], &["--json"]].concat(), text, &[]).json();
    let tokens = report["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), report["tokens_scored"].as_u64().unwrap() as usize);
    let nlls: f64 = tokens.iter().map(|token| token["nll"].as_f64().unwrap()).sum();
    assert!((nlls / tokens.len() as f64 / report["nll"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    for token in tokens {
        let (p, nll) = (token["p"].as_f64().unwrap(), token["nll"].as_f64().unwrap());
        assert!((p.ln() + nll).abs() < 1e-6, "{token}");
        assert_eq!(token["rank"] == 0, token["best_token"].is_null(), "{token}");
    }
    let csv = std::fs::read_to_string(csv).unwrap();
    let mut lines = csv.lines();
    assert_eq!(
        lines.next().unwrap(),
        "document,index,position,token,text,p,nll,rank,best_token,best_text,best_p,dominates"
    );
    assert!(csv.contains("\"\"\"\"") || csv.contains("\"\"cat"), "quotes are doubled: {csv}");
    assert!(csv.matches(",<0xF0>,").count() == 1, "{csv}");
}

#[test]
fn the_html_page_is_complete_and_safe() {
    let dir = tempfile::tempdir().unwrap();
    let html = dir.path().join("report.html");
    let text = "A cat <script>alert(1)</script> & \"dog\" \u{1f389}\u{e9}.\n</p>";
    let args = ["perplexity", "-", "--html", html.to_str().unwrap(), "--documents", "lines"];
    let run = wgpt_with(&[&args[..], &["--protocol", "segments"]].concat(), text, &[]).ok();
    assert!(run.stdout.starts_with("perplexity "), "{run:#?}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    // Only the page's own script and its data, from which no text can escape.
    assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (2, 2), "{page}");
    let data = page.split_once("id=\"figures\">").unwrap().1.split_once("</script>").unwrap().0;
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data.as_array().unwrap().len(), 2);
    // The emoji is one cell of several tokens.
    let cells = data[0].as_array().unwrap();
    assert!(cells.iter().any(|cell| cell.as_array().unwrap().len() > 1 && cell[0][0] == "<0xF0>"), "{data}");
    assert!(page.contains(">\u{1f389}</i>"), "{page}");
    // Each of the ten most surprising tokens links to its place.
    let links: Vec<_> = page.split("href=\"#").skip(1).filter_map(|link| link.split('"').next()).collect();
    assert_eq!(links.len(), 10);
    assert!(links.iter().all(|id| page.matches(&format!("id=\"{id}\"")).count() == 1), "{links:?}");
    for absent in ["http://", "https://", "//", "url(", "@import", "src="] {
        let text = page.replace("// Figures of the token", "");
        assert!(!text.contains(absent), "{absent}");
    }
    for part in ["Content-Security-Policy", "prefers-color-scheme: dark", "width=device-width", "<svg"] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file remains");
}

#[test]
fn documents_are_files_or_parts_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let (a, b) = (file("a.txt", "A cat.\n\nA dog.\nA cow.\n"), file("b.txt", "Tom ran."));
    let documents = |more: &[&str]| {
        let args = [&["perplexity", &a, &b, "--json", "--protocol", "segments"], more].concat();
        let report = wgpt(&args).json();
        assert_eq!(report["files"][1]["path"], b.as_str());
        report["n_documents"].as_u64().unwrap()
    };
    assert_eq!(documents(&[]), 2);
    assert_eq!(documents(&["--documents", "lines"]), 4);
    assert_eq!(documents(&["--documents", "blank-lines", "--limit", "2"]), 3);
    assert_eq!(documents(&["--documents", "cat."]), 3);
    let stream = wgpt(&["perplexity", &a, &b, "--json", "--documents", "rows"]).json();
    assert_eq!((&stream["n_documents"], &stream["documents"]), (&1.into(), &"rows".into()));
}

#[test]
fn outputs_never_overwrite_a_text() {
    let model = Model::demo();
    model.write("text.txt", STORY.as_bytes());
    let text = format!("{}/text.txt", model.path());
    for option in ["--csv", "--html"] {
        wgpt(&["perplexity", &text, option, &text])
            .fails(4, &["would overwrite the input", "name another file"]);
        assert_eq!(model.read("text.txt"), STORY.as_bytes());
    }
}
