//! Loading a model onto the GPU: the values there, the memory that it and its sessions
//! take on both sides, progress, and every way in which a model is refused.
mod budget;
mod errors;
mod plan;
mod progress;
mod random;
mod sessions;
mod weights;
