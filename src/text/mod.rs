//! Conversion between text and token ids: the tokenizer, incremental decoding, stop
//! strings and chat templates.

mod byte_level;
mod chat_template;
mod stop;
mod stream;
mod tokenizer;
mod utf8;

pub use chat_template::{ChatTemplate, TemplateInput};
pub use stop::StopStrings;
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
