//! A JSON object, read as a bounded, sorted table: the header of a safetensors file, or
//! the weight map of an index.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// Maximum number of tensors in a checkpoint. The largest published ones (mixtures of
/// experts, with block scales) have about 91,000. A header with this many names of
/// maximum length takes less than 64 MiB on the heap.
pub(super) const MAX_TENSORS: usize = 1 << 17;

/// Maximum length of a tensor name in bytes; published names are shorter than 100.
const MAX_NAME_BYTES: usize = 192;

/// The key that the format reserves for free text.
const METADATA: &str = "__metadata__";

/// The entries of a JSON object except `__metadata__`, sorted by key. A key that occurs
/// twice is an error; a plain map would silently drop one of the two.
pub(super) struct Entries<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
    type Value = Entries<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose keys are tensor names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(A::Error::custom(format_args!(
                    "a tensor name of {} bytes; at most {MAX_NAME_BYTES} are accepted",
                    name.len()
                )));
            }
            if entries.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
            }
            entries.push((name, map.next_value()?));
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom(format_args!("tensor {:?} occurs twice", pair[0].0)));
        }
        Ok(Entries(entries))
    }
}
