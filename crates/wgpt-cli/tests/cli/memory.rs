//! `--memory-budget`: a model that does not fit is refused, with changes that would fit.

use crate::program::wgpt;

#[test]
fn a_model_beyond_the_budget_is_refused_with_proposals() {
    let inspect = |more: &[&str]| wgpt(&[&["inspect", "--json", "--dtype", "f32"], more].concat()).json();
    let plain = inspect(&[]);
    assert!(plain["budget"].is_null());
    let total = plain["plan"]["total_bytes"].as_u64().unwrap();
    let exact = inspect(&["--memory-budget", &total.to_string()]);
    assert_eq!((exact["budget"]["bytes"].as_u64(), &exact["budget"]["fits"]), (Some(total), &true.into()));
    let less = (total - 1).to_string();
    let over = wgpt(&["inspect", "--json", "--dtype", "f32", "--memory-budget", &less]);
    assert_eq!(over.code, Some(4), "{over:#?}");
    let over: serde_json::Value = serde_json::from_str(&over.stdout).unwrap();
    assert_eq!((&over["budget"]["fits"], &over["plan"]), (&false.into(), &plain["plan"]));
    // Every proposed change fits.
    let fits = over["budget"]["would_fit"].as_array().unwrap();
    assert!(!fits.is_empty());
    for fit in fits {
        let change = fit["changes"][0].as_object().unwrap();
        let (name, value) = change.iter().next().unwrap();
        let flag = match name.as_str() {
            "context" => "--ctx-size",
            "kv_dtype" => "--kv-dtype",
            "prefill_chunk" => "--prefill-chunk",
            _ => "--dtype",
        };
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        let args = ["inspect", "--json", "--dtype", "f32", "--memory-budget", &less];
        let changed = if flag == "--dtype" {
            wgpt(&["inspect", "--json", "--memory-budget", &less]).json()
        } else {
            wgpt(&[&args[..], &[flag, &value]].concat()).json()
        };
        assert_eq!(changed["budget"]["fits"], true, "{flag} {value}");
        assert_eq!(changed["plan"]["total_bytes"], fit["total_bytes"], "{flag} {value}");
    }
    let over = wgpt(&["inspect", "--dtype", "f32", "--memory-budget", &less]);
    assert_eq!(over.code, Some(4), "{over:#?}");
    assert!(over.stderr.contains("it fits with --ctx-size") && over.stderr.contains(&less), "{over:#?}");
    assert!(over.stdout.contains(&format!("does not fit the budget of {less} bytes")), "{over:#?}");
    let text = wgpt(&["inspect", "--memory-budget", "1GiB"]).ok().stdout;
    assert!(text.contains("fits the budget of 1073741824 bytes"), "{text}");
}

#[test]
fn generating_beyond_a_budget_is_an_error() {
    let args = ["generate", "-p", "Once", "-n", "2", "--temp", "0"];
    let over = wgpt(&[&args[..], &["--memory-budget", "10MB"]].concat());
    over.fails(4, &["the budget is 10000000", "it fits with --ctx-size", "weights"]);
    wgpt(&[&args[..], &["--memory-budget", "1kB"]].concat()).fails(4, &["nothing less than"]);
    wgpt(&[&args[..], &["--memory-budget", "1GB"]].concat()).ok();
    wgpt(&[&args[..], &["--memory-budget", "much"]].concat()).fails(2, &["much", "expected a size such as"]);
}
