//! Asking the zygote and the stages.
