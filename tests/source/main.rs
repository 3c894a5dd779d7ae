//! The sources as texts: the direction of imports, the size of files, the
//! public items. No GPU is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod messages;
mod public_items;
