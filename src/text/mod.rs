//! Text to token ids and back: the tokenizer, text that grows token by token,
//! stop strings.

mod byte_level;
mod stop;
mod stream;
mod tokenizer;
mod utf8;

pub use stop::StopStrings;
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
