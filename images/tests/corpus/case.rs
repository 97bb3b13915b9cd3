//! What a line of the tables says: an archive, and what must come of it.

use images::{UnpackLimits, UnpackOptions};

/// A rule, with archives that keep it and archives that break it.
pub struct Rule {
    pub says: &'static str,
    pub cases: Vec<Case>,
}

/// One archive.
pub struct Case {
    pub name: &'static str,
    pub archive: Vec<u8>,
    /// An archive that was unpacked before; `archive` is then a layer over it.
    pub lower: Option<Vec<u8>>,
    pub limits: UnpackLimits,
    /// A layer that overlayfs stacks over others.
    pub stack: bool,
    pub want: Want,
    /// What the summary must note, in order.
    pub notes: Vec<&'static str>,
    /// What the format itself may take beside the bound that holds for every archive.
    pub window_bytes: u64,
}

/// What must come of an archive.
pub enum Want {
    /// Exactly this tree; see [`crate::check`] for how it is written.
    Tree(Vec<String>),
    /// An error of this kind, with all these words in its text.
    Error(Kind, Vec<&'static str>),
}

/// The kinds of [`images::UnpackFault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The format is broken.
    Malformed,
    /// The format is right, the wish is not.
    Refused,
    /// This bound was passed.
    Limit(u64),
    /// The kernel said no.
    System,
}

pub fn rule(says: &'static str, cases: Vec<Case>) -> Rule {
    Rule { says, cases }
}

/// An archive that must be unpacked to exactly this tree.
pub fn good(name: &'static str, archive: Vec<u8>, tree: &[&str]) -> Case {
    case(name, archive, Want::Tree(tree.iter().map(|line| (*line).to_owned()).collect()))
}

/// An archive that must be refused.
pub fn bad(name: &'static str, archive: Vec<u8>, kind: Kind, words: &[&'static str]) -> Case {
    case(name, archive, Want::Error(kind, words.to_vec()))
}

fn case(name: &'static str, archive: Vec<u8>, want: Want) -> Case {
    let limits = UnpackLimits::default();
    Case { name, archive, lower: None, limits, stack: false, want, notes: Vec::new(), window_bytes: 0 }
}

impl Case {
    pub fn bounded(mut self, change: impl FnOnce(&mut UnpackLimits)) -> Case {
        change(&mut self.limits);
        self
    }

    pub fn over(mut self, lower: Vec<u8>) -> Case {
        self.lower = Some(lower);
        self
    }

    pub fn stacked(mut self) -> Case {
        self.stack = true;
        self
    }

    pub fn noting(mut self, notes: &[&'static str]) -> Case {
        self.notes = notes.to_vec();
        self
    }

    pub fn window(mut self, bytes: u64) -> Case {
        self.window_bytes = bytes;
        self
    }

    pub fn is_good(&self) -> bool {
        matches!(self.want, Want::Tree(_))
    }

    pub fn options(&self, ownership: images::Ownership) -> UnpackOptions {
        let limits = self.limits.clone();
        UnpackOptions { ownership, limits, stack: self.stack, ..UnpackOptions::default() }
    }
}
