//! One step's sandbox: data (`spec`), the script made of it (`ops`), and the small processes that run it.
//!
//! keeper -> `zygote` -> `stage` (one per job) -> init and payload (`child`); docs in ARCHITECTURE.md.
//! Knows neither job files nor images.

pub mod child;
pub mod door;
pub mod filters;
pub mod ids;
pub mod ops;
pub mod payload;
pub mod policy;
pub mod profile;
pub mod seccomp;
pub mod servant;
mod shared;
pub mod spawn;
pub mod spec;
pub mod stage;
pub mod sweep;
pub mod wire;
pub mod zygote;
