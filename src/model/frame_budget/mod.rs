//! Passes whose submits take a bounded time: measured dispatches, predicted times, and
//! unfinished passes that continue over several calls.

mod calibrate;
mod cost;
mod split;
mod unfinished;

pub(super) use cost::CostModel;
pub(super) use split::Pieces;
pub(super) use unfinished::Unfinished;
pub use unfinished::{Overrun, PassOwner, PieceTime};
