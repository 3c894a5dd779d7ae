//! Lists and counts the items of a library that a user can name, from rustdoc's JSON.
//!
//! It counts modules, types, traits, functions, methods, fields, variants, constants,
//! macros, and every further path to an item already counted (a re-export). It does not
//! count trait implementations, derived or written, because they add no names.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo rustdoc --lib -- -Z unstable-options --output-format json
//! cargo run --example public_items -- target/doc/wgpt.json
//! ```

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

/// The public items of one library, one line each: its kind and its path.
#[derive(Default)]
pub struct PublicItems {
    lines: BTreeSet<String>,
    /// Ids that already have a line.
    seen: HashSet<u64>,
}

impl PublicItems {
    /// Reads rustdoc's JSON output of one crate.
    ///
    /// # Panics
    /// If the text is not such a file. The format changes with the compiler.
    pub fn read(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).expect("rustdoc's JSON");
        let root = json["root"].as_u64().expect("the root module's id");
        let mut items = PublicItems::default();
        let name = json["index"][root.to_string()]["name"].as_str().expect("the crate's name");
        items.seen.insert(root);
        items.module(&json["index"], root, name);
        items
    }

    /// One line per item, sorted.
    pub fn lines(&self) -> &BTreeSet<String> {
        &self.lines
    }

    fn add(&mut self, kind: &str, path: &str) {
        self.lines.insert(format!("{kind} {path}"));
    }

    fn module(&mut self, index: &Value, id: u64, path: &str) {
        for id in ids(&index[id.to_string()]["inner"]["module"]["items"]) {
            self.item(index, id, path);
        }
    }

    /// An item of a module or an implementation, which is public if the index says so.
    fn item(&mut self, index: &Value, id: u64, parent: &str) {
        let item = &index[id.to_string()];
        let Some((kind, inner)) = item["inner"].as_object().and_then(|inner| inner.iter().next()) else {
            return;
        };
        if kind == "use" {
            return self.re_export(index, inner, parent);
        }
        let Some(name) = item["name"].as_str() else { return };
        if item["visibility"] == "public" {
            self.named(index, id, kind, inner, &format!("{parent}::{name}"));
        }
    }

    /// A path to another item: the item itself at its first path, otherwise a re-export.
    fn re_export(&mut self, index: &Value, import: &Value, parent: &str) {
        let target = import["id"].as_u64();
        let found = target.map(|id| &index[id.to_string()]);
        if import["is_glob"] == true {
            if let Some(id) = target {
                self.module(index, id, parent);
            }
            return;
        }
        let path = format!("{parent}::{}", import["name"].as_str().expect("a re-export's name"));
        match (target, found.and_then(|item| item["inner"].as_object()?.iter().next())) {
            (Some(id), Some((kind, inner))) if !self.seen.contains(&id) => {
                self.named(index, id, kind, inner, &path);
            }
            _ => self.add("re-export", &path),
        }
    }

    fn named(&mut self, index: &Value, id: u64, kind: &str, inner: &Value, path: &str) {
        if !self.seen.insert(id) {
            return self.add("re-export", path);
        }
        self.add(kind, path);
        match kind {
            "module" => self.module(index, id, path),
            "struct" => {
                let kind = &inner["kind"];
                let fields = [&kind["plain"]["fields"], &kind["tuple"]];
                fields.into_iter().flat_map(ids).for_each(|id| self.item(index, id, path));
                self.implementations(index, inner, path);
            }
            "enum" => {
                for id in ids(&inner["variants"]) {
                    self.variant(index, id, path);
                }
                self.implementations(index, inner, path);
            }
            "union" => self.implementations(index, inner, path),
            "trait" => ids(&inner["items"]).for_each(|id| self.member(index, id, path)),
            _ => {}
        }
    }

    /// Members that share the visibility of their parent.
    fn member(&mut self, index: &Value, id: u64, parent: &str) {
        let item = &index[id.to_string()];
        let kind = item["inner"].as_object().and_then(|inner| inner.keys().next());
        if let (Some(kind), Some(name)) = (kind, item["name"].as_str()) {
            self.add(kind, &format!("{parent}::{name}"));
        }
    }

    fn variant(&mut self, index: &Value, id: u64, parent: &str) {
        self.member(index, id, parent);
        let item = &index[id.to_string()];
        let name = item["name"].as_str().unwrap_or_default();
        let kind = &item["inner"]["variant"]["kind"];
        for field in ids(&kind["struct"]["fields"]) {
            self.member(index, field, &format!("{parent}::{name}"));
        }
    }

    fn implementations(&mut self, index: &Value, inner: &Value, path: &str) {
        for id in ids(&inner["impls"]) {
            let block = &index[id.to_string()]["inner"]["impl"];
            if block["trait"].is_null() {
                ids(&block["items"]).for_each(|id| self.item(index, id, path));
            }
        }
    }
}

fn ids(list: &Value) -> impl Iterator<Item = u64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_u64)
}

#[allow(dead_code, reason = "the test of the public API uses the type alone")]
fn main() {
    let mut total = 0;
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let items = PublicItems::read(&text);
        items.lines().iter().for_each(|line| println!("{line}"));
        println!("# {path}: {} items", items.lines().len());
        total += items.lines().len();
    }
    println!("# {total} items in all");
}
