//! The parser's events to nodes: anchors, aliases, merges, duplicate keys, and the walls against bombs.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Tag, options};

use super::{Entry, Kind, Node, Scalar, Value, syntax};
use crate::bounds::{DEPTH_MAX, EXPANDED_BYTES_MAX, NODES_MAX};
use crate::codes::Code;
use crate::diagnostic::Problems;
use crate::render::quote;
use crate::source::{Span, whole};
use crate::suggest::nearest;

/// Reads the one document of a text that lies at `start` among all texts. `None`: there is no tree, and why is among the
/// problems.
pub(crate) fn parse(text: &str, start: usize, problems: &mut Problems) -> Option<Rc<Node>> {
    let mut builder = Builder::new(start, problems);
    let moved = |span: Span| start + span.start..start + span.end;
    for next in Parser::new_from_str_with_options(text, parser_options()) {
        match next {
            Ok((event, span)) => {
                let tag_span = span.tag_span().and_then(|span| span.byte_range()).map(moved);
                let span = moved(span.byte_range().unwrap_or(0..0));
                builder.tag_span = tag_span.unwrap_or_else(|| span.clone());
                if builder.event(event, span).is_break() {
                    return None;
                }
            }
            Err(error) => {
                syntax::report(text, start, &error, builder.problems);
                return None;
            }
        }
    }
    if builder.root.is_none() {
        builder
            .problems
            .add(Code::Documents, whole(start), "the file is empty")
            .hint("a job needs `image` and `steps`");
    }
    builder.root
}

fn parser_options() -> Options {
    options! {
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    }
}

/// A list or map that is still open.
struct Frame {
    start: usize,
    anchor: usize,
    content: Content,
    weight: usize,
    bytes: usize,
    height: usize,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<PendingKey> },
}

struct PendingKey {
    /// `None`: the key was not a scalar; reported, and its value is dropped.
    text: Option<String>,
    span: Span,
    merge: bool,
}

/// The key under which merges stand among the entries until the map closes. NUL never is in a key.
const MERGE_KEY: &str = "\0<<";

struct Builder<'a> {
    /// Where the text lies among all texts.
    start: usize,
    problems: &'a mut Problems,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    anchor_names: Vec<String>,
    root: Option<Rc<Node>>,
    documents: usize,
    /// Where the tag of the current event stands.
    tag_span: Span,
}

impl<'a> Builder<'a> {
    fn new(start: usize, problems: &'a mut Problems) -> Builder<'a> {
        Builder {
            start,
            problems,
            stack: Vec::new(),
            anchors: HashMap::new(),
            anchor_names: Vec::new(),
            root: None,
            documents: 0,
            tag_span: 0..0,
        }
    }

    /// Takes one event; breaks when there is no sense in going on.
    fn event(&mut self, event: Event<'_>, span: Span) -> ControlFlow<()> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let text = "the file holds more than one document; a job file is one";
                    self.problems.add(Code::Documents, span, text);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref(), span);
                self.finish(node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq");
                self.open(Content::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map");
                self.open(Content::Map { entries: Vec::new(), key: None }, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(id) => self.alias(id, span),
            Event::UnresolvedAlias(name) => {
                let text = format!("{} names no anchor above it", quote(&format!("*{name}")));
                let names: Vec<&str> = self.anchor_names.iter().map(String::as_str).collect();
                let similar = nearest(&name, &names).map(|found| format!("did you mean `*{found}`?"));
                let problem = self.problems.add(Code::Alias, span.clone(), text);
                if name.starts_with(['*', '.', '/']) || similar.is_none() {
                    problem.hint("a value that starts with `*` is an alias; put quotes around a pattern");
                } else if let Some(similar) = similar {
                    problem.hint(similar);
                }
                self.push(Rc::new(Node::leaf(span, Value::Unreadable, 0)))
            }
            Event::Anchor(_, name) => {
                self.anchor_names.push(name.into_owned());
                ControlFlow::Continue(())
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => ControlFlow::Continue(()),
            // Comments are switched off; a kind of event that does not exist yet carries no value of ours.
            Event::Comment(..) | _ => ControlFlow::Continue(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        // A value that is not written at all comes as "~" of no length.
        let text = if span.is_empty() && style == ScalarStyle::Plain { "" } else { text };
        let scalar = match style {
            ScalarStyle::Plain => Scalar::plain(text),
            ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => Scalar::text(text),
        };
        let scalar = match tag {
            None => scalar,
            Some(tag) => match tagged(&scalar, tag) {
                Some(scalar) => scalar,
                None => {
                    self.foreign_tag(tag);
                    return Node::leaf(span, Value::Unreadable, 0);
                }
            },
        };
        Node::leaf(span, Value::Scalar(scalar), text.len())
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, expected: &str) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix() != Some(expected) && tag.original() != "!") {
            self.foreign_tag(tag);
        }
    }

    fn foreign_tag(&mut self, tag: &Tag) {
        let text = format!("the tag {} has no meaning for this value", quote(&tag.original()));
        self.problems
            .add(Code::Tag, &self.tag_span, text)
            .hint("put quotes around text that starts with `!`");
    }

    fn open(&mut self, content: Content, anchor: usize, span: Span) -> ControlFlow<()> {
        self.stack.push(Frame { start: span.start, anchor, content, weight: 1, bytes: 0, height: 1 });
        ControlFlow::Continue(())
    }

    fn close(&mut self, span: Span) -> ControlFlow<()> {
        let Some(frame) = self.stack.pop() else { return ControlFlow::Continue(()) };
        let value = match frame.content {
            Content::List(list) => Value::List(list),
            Content::Map { entries, .. } => Value::Map(self.merged(entries)),
        };
        let span = frame.start..span.end.max(frame.start);
        let node = Node { span, value, weight: frame.weight, bytes: frame.bytes, height: frame.height };
        self.finish(node, frame.anchor)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> ControlFlow<()> {
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.push(node)
    }

    fn alias(&mut self, id: usize, span: Span) -> ControlFlow<()> {
        match self.anchors.get(&id) {
            Some(node) => {
                let node = Rc::clone(node);
                let whole_weight = self.stack.iter().map(|frame| frame.weight).sum::<usize>() + node.weight;
                let whole_bytes = self.stack.iter().map(|frame| frame.bytes).sum::<usize>() + node.bytes;
                if whole_weight > NODES_MAX || whole_bytes > EXPANDED_BYTES_MAX {
                    let text = format!(
                        "with its aliases written out the file has more than {NODES_MAX} values or \
                         {EXPANDED_BYTES_MAX} bytes"
                    );
                    self.problems.add(Code::FileTooBig, span, text);
                    return ControlFlow::Break(());
                }
                if self.stack.len() + node.height > DEPTH_MAX {
                    let text =
                        format!("with its aliases written out the file is deeper than {DEPTH_MAX} levels");
                    self.problems.add(Code::FileTooBig, span, text);
                    return ControlFlow::Break(());
                }
                self.push(node)
            }
            None => {
                self.problems.add(
                    Code::Alias,
                    span.clone(),
                    "the alias stands inside the value that it names",
                );
                self.push(Rc::new(Node::leaf(span, Value::Unreadable, 0)))
            }
        }
    }

    /// Puts a finished node where it belongs: into the open list, as key or value of the open map, or as root.
    fn push(&mut self, node: Rc<Node>) -> ControlFlow<()> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return ControlFlow::Continue(());
        };
        frame.weight += node.weight;
        frame.bytes += node.bytes;
        frame.height = frame.height.max(node.height + 1);
        match &mut frame.content {
            Content::List(list) => list.push(node),
            Content::Map { key: key @ None, .. } => *key = Some(pending_key(&node, self.problems)),
            Content::Map { entries, key } => {
                if let Some(PendingKey { text: Some(text), span, merge }) = key.take() {
                    let value = placed(node, &span);
                    let key = if merge { MERGE_KEY.to_owned() } else { text };
                    entries.push(Entry { key, key_span: span, value });
                }
            }
        }
        if frame.weight > NODES_MAX {
            let text = format!("the file has more than {NODES_MAX} values");
            self.problems.add(Code::FileTooBig, whole(self.start), text);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Reports duplicate keys and resolves `<<`: the map's own keys win, then earlier maps over later ones.
    fn merged(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut seen: HashMap<String, Span> = HashMap::with_capacity(entries.len());
        let mut own: Vec<Entry> = Vec::with_capacity(entries.len());
        let mut sources: Vec<Rc<Node>> = Vec::new();
        for entry in entries {
            if let Some(first) = seen.get(&entry.key) {
                let name = if entry.key == MERGE_KEY { "<<" } else { &entry.key };
                let text = format!("the key {} is given twice", quote(name));
                let problem = self.problems.add(Code::DuplicateKey, entry.key_span.clone(), text);
                problem.refer_to(first);
                continue;
            }
            seen.insert(entry.key.clone(), entry.key_span.clone());
            if entry.key == MERGE_KEY { sources.push(entry.value) } else { own.push(entry) }
        }
        if sources.is_empty() {
            return own;
        }
        let mut have: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
        for map in self.merge_sources(&sources) {
            let Value::Map(entries) = &map.value else { continue };
            own.extend(entries.iter().filter(|entry| have.insert(entry.key.clone())).cloned());
        }
        own
    }

    /// Returns the maps that `<<` names, in order of precedence; anything else is reported.
    fn merge_sources(&mut self, sources: &[Rc<Node>]) -> Vec<Rc<Node>> {
        let mut maps = Vec::new();
        for source in sources {
            let candidates = match &source.value {
                Value::List(list) => list.clone(),
                Value::Scalar(_) | Value::Map(_) | Value::Unreadable => vec![Rc::clone(source)],
            };
            for node in candidates {
                match &node.value {
                    Value::Map(_) => maps.push(node),
                    Value::Unreadable => {}
                    Value::Scalar(_) | Value::List(_) => {
                        let text = format!("`<<` merges maps; found {}", node.describe());
                        self.problems.add(Code::Merge, &node.span, text);
                    }
                }
            }
        }
        maps
    }
}

/// Applies a core-schema tag; `None` when the tag is foreign or does not fit.
fn tagged(scalar: &Scalar, tag: &Tag) -> Option<Scalar> {
    let plain = || Scalar::plain(&scalar.text);
    let fits = match tag.core_suffix() {
        Some("str") => return Some(Scalar::text(&scalar.text)),
        Some("null") => plain().kind == Kind::Null,
        Some("bool") => matches!(plain().kind, Kind::Bool(_)),
        Some("int") => plain().kind == Kind::Int,
        Some("float") => matches!(plain().kind, Kind::Int | Kind::Float),
        _ => return (tag.original() == "!").then(|| Scalar::text(&scalar.text)),
    };
    fits.then(plain)
}

fn pending_key(node: &Node, problems: &mut Problems) -> PendingKey {
    let text = match &node.value {
        Value::Scalar(scalar) => Some(scalar.text.clone()),
        Value::Unreadable => None,
        Value::List(_) | Value::Map(_) => {
            let text = format!("a key must be text, found {}", node.describe());
            problems.add(Code::WrongType, &node.span, text);
            None
        }
    };
    // A quoted "<<" is two characters long without its quotes, so its span is not.
    let merge = text.as_deref() == Some("<<") && node.span.len() == 2;
    PendingKey { text, span: node.span.clone(), merge }
}

/// Gives a value that is not written at all the place of its key, so that there is something to point at.
fn placed(node: Rc<Node>, key: &Span) -> Rc<Node> {
    match &node.value {
        Value::Scalar(scalar) if scalar.kind == Kind::Null && node.span.is_empty() => {
            Rc::new(Node::leaf(key.clone(), Value::Scalar(scalar.clone()), 0))
        }
        Value::Scalar(_) | Value::List(_) | Value::Map(_) | Value::Unreadable => node,
    }
}
