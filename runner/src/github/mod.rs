//! GitHub Actions around us: orders in the output ([`command`]), the summary of a run as Markdown ([`summary`]), and the files
//! by which a step of a workflow hands values on ([`files`]). Texts and files only; nothing here runs or prints anything.

pub mod command;
pub mod files;
pub mod summary;
