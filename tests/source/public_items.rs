//! The public items of the libraries match the recorded lists.
//!
//! rustdoc's JSON changes with the compiler, so the lists name the compiler that they were
//! made with. Under another compiler the test compares nothing and says so. To record a
//! change:
//! `WGPT_RECORD=1 cargo test --test source public_items`.

use std::path::Path;
use std::process::Command;

#[path = "../../tools/public_items.rs"]
mod tool;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// At 5b5c4fc, before the rooms were private, the same list had this many items.
const BEFORE: usize = 2621;

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("rustc runs");
    String::from_utf8(output.stdout).expect("a version").trim().to_owned()
}

/// Returns rustdoc's JSON of a library of the workspace, built without the door.
fn documented(package: &str) -> String {
    // The format is unstable. RUSTC_BOOTSTRAP makes a stable rustdoc write it.
    let wrapper = tempfile::tempdir().expect("a temporary directory");
    let rustdoc = wrapper.path().join("rustdoc.sh");
    std::fs::write(&rustdoc, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n").expect("a script");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&rustdoc, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    let output = Command::new(env!("CARGO"))
        .args(["rustdoc", "--quiet", "--locked", "--package", package, "--lib"])
        .args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"])
        .env("RUSTDOC", &rustdoc)
        .env_remove("RUSTDOCFLAGS")
        .current_dir(ROOT)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let target = std::env::current_exe().expect("the path of this program");
    // target/debug/deps/source-...
    let target = target.ancestors().nth(3).expect("the target directory");
    let path = target.join("doc").join(format!("{}.json", package.replace('-', "_")));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
#[cfg(unix)]
fn public_items_match_the_recorded_lists() {
    let (here, mut total) = (rustc(), 0);
    for package in ["wgpt", "wgpt-eval"] {
        let path = Path::new(ROOT).join("tests/source").join(format!("{package}.items.txt"));
        let recorded = std::fs::read_to_string(&path).unwrap_or_default();
        let record = std::env::var_os("WGPT_RECORD").is_some();
        let version = recorded.lines().next().unwrap_or_default().trim_start_matches("# ").to_owned();
        if !record && version != here {
            println!("not compared: the lists are for {version}, this is {here}");
            return;
        }
        let items = tool::PublicItems::read(&documented(package));
        let mut found = format!("# {here}\n");
        items.lines().iter().for_each(|line| found += &format!("{line}\n"));
        total += items.lines().len();
        if record {
            std::fs::write(&path, &found).expect("the list is written");
        } else {
            let (old, new): (Vec<&str>, Vec<&str>) = (recorded.lines().collect(), found.lines().collect());
            let gone: Vec<_> = old.iter().filter(|line| !new.contains(line)).collect();
            let added: Vec<_> = new.iter().filter(|line| !old.contains(line)).collect();
            assert!(
                gone.is_empty() && added.is_empty(),
                "{package}: gone {gone:#?}, new {added:#?}; a change that is meant is recorded by \
                 WGPT_RECORD=1 cargo test --test source public_items, and CHANGELOG.md lists it"
            );
        }
    }
    assert!(3 * total <= BEFORE, "{total} public items: more than a third of {BEFORE}");
}
