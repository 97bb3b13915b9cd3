//! `${{ }}`: a subset of GitHub's expressions. Parsed, checked against the names that exist, evaluated over contexts
//! that are given as values. No environment, files or clock.
//!
//! ```text
//! text -> Template -> Expression -> Value
//!         template    lexer,parse   evaluate,functions (over Contexts; names tested by Scope)
//! ```

mod ast;
mod evaluate;
mod fault;
mod functions;
mod lexer;
mod parse;
mod scope;
mod template;
mod value;

pub use ast::Expression;
pub use evaluate::{Contexts, FileHasher, Status};
pub use fault::{Fault, FaultKind};
pub(crate) use scope::{Scope, Shape};
pub use template::Template;
pub(crate) use template::{OPEN, Part};
pub use value::Value;

#[cfg(test)]
mod tests;
