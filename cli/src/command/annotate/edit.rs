//! Annotations put into the text of a manifest.
//!
//! Pure. In block style only the lines of the annotations change, so comments, order and quotes stay as they are. The
//! result is read again and must mean what the change means; where it does not (flow style, anchors on the way), the
//! document is written anew from its meaning, which keeps all values but no comments.

use std::collections::BTreeMap;

use anyhow::Context as _;
use ironside_resources::yaml;
use serde_json::{Map, Value};

/// One step on the way into a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A member of a mapping.
    Key(&'static str),
    /// An item of a sequence.
    Item(usize),
}

/// Annotations by their name.
pub(super) type Annotations = BTreeMap<&'static str, String>;

/// What lies at the end of a path, if something does.
pub(super) fn at<'a>(document: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Item(at) => value.get(at),
    })
}

/// The document with these annotations at the end of the path.
pub(super) fn annotate(
    document: &str,
    value: &Value,
    path: &[Step],
    annotations: &Annotations,
) -> anyhow::Result<String> {
    let mut meant = value.clone();
    set(&mut meant, path, annotations).context("the way to the annotations is no mapping")?;
    let spliced = Text::new(document).splice(path, annotations);
    let spliced = spliced.filter(|text| yaml::from_str::<Value>(text).as_ref() == Ok(&meant));
    match spliced {
        Some(text) => Ok(text),
        None => serde_yaml::to_string(&meant).context("writing YAML"),
    }
}

/// Changes the meaning; `None` if something on the way is no mapping.
fn set(value: &mut Value, path: &[Step], annotations: &Annotations) -> Option<()> {
    let Some((step, rest)) = path.split_first() else {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        let held = value.as_object_mut()?;
        for (name, text) in annotations {
            held.insert((*name).to_owned(), text.clone().into());
        }
        return Some(());
    };
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let next = match step {
        Step::Key(key) => value
            .as_object_mut()?
            .entry((*key).to_owned())
            .or_insert(Value::Null),
        Step::Item(at) => value.get_mut(at)?,
    };
    set(next, rest, annotations)
}

/// A document as lines.
struct Text {
    lines: Vec<String>,
    /// The same, with the dash of items on the way taken for space.
    seen: Vec<String>,
}

/// Lines that hold one mapping or sequence in block style, its entries in this column.
#[derive(Debug, Clone, Copy)]
struct Block {
    start: usize,
    end: usize,
    column: usize,
}

/// A member of a mapping.
#[derive(Debug)]
struct Entry {
    key: String,
    /// What follows the colon, without a comment.
    rest: String,
    line: usize,
    /// Behind its last line with content.
    end: usize,
}

// === impl Text ===

impl Text {
    fn new(document: &str) -> Self {
        let lines: Vec<String> = document
            .split_inclusive('\n')
            .map(|line| match line.ends_with('\n') {
                true => line.to_owned(),
                false => format!("{line}\n"),
            })
            .collect();
        Self {
            seen: lines.clone(),
            lines,
        }
    }

    /// The text with the annotations; `None` if the way is not plain block style.
    fn splice(mut self, path: &[Step], annotations: &Annotations) -> Option<String> {
        let mut block = self.block(0, self.lines.len())?;
        for (depth, step) in path.iter().enumerate() {
            let key = match step {
                Step::Key(key) => key,
                Step::Item(at) => {
                    block = self.item(block, *at)?;
                    continue;
                }
            };
            let rest = path.get(depth..)?;
            let Some(entry) = self.entries(block).into_iter().find(|one| one.key == *key) else {
                let at = self.content_end(block.start, block.end);
                let new = nested(rest, annotations, block.column, 2)?;
                self.lines.splice(at..at, new);
                return Some(self.lines.concat());
            };
            match entry.rest.as_str() {
                "" => {}
                "{}" | "null" | "~" => {
                    return self.replace(&entry, rest, annotations, block.column);
                }
                _ => return None,
            }
            let Some(inner) = self.block(entry.line + 1, entry.end) else {
                return self.replace(&entry, rest, annotations, block.column);
            };
            block = inner;
        }
        self.write(block, annotations)
    }

    /// Puts the rest of the way in the place of an entry that is empty.
    fn replace(
        mut self,
        entry: &Entry,
        rest: &[Step],
        annotations: &Annotations,
        column: usize,
    ) -> Option<String> {
        // What stands before the key, a dash perhaps, stays.
        let line = self.lines.get(entry.line)?;
        let before = line.get(..column)?.to_owned();
        let mut new = nested(rest, annotations, column, 2)?;
        let first = new.first_mut()?;
        *first = format!("{before}{}", first.trim_start());
        self.lines.splice(entry.line..=entry.line, new);
        Some(self.lines.concat())
    }

    /// Sets the annotations in their own block.
    fn write(mut self, block: Block, annotations: &Annotations) -> Option<String> {
        let entries = self.entries(block);
        let mut new = Vec::new();
        for (name, text) in annotations {
            let line = pair(name, text, block.column);
            match entries.iter().find(|one| one.key == *name) {
                None => new.push(line),
                Some(entry) => {
                    let old = self.lines.get_mut(entry.line..entry.end)?;
                    let (first, more) = old.split_first_mut()?;
                    *first = line;
                    more.iter_mut().for_each(String::clear);
                }
            }
        }
        let at = self.content_end(block.start, block.end);
        self.lines.splice(at..at, new);
        Some(self.lines.concat())
    }

    /// The block whose first entry is the first content of these lines.
    fn block(&self, start: usize, end: usize) -> Option<Block> {
        let lines = self.seen.get(start..end)?;
        let column = lines.iter().find_map(|line| column(line))?;
        Some(Block { start, end, column })
    }

    /// One item of a sequence, as a mapping of its own.
    fn item(&mut self, sequence: Block, at: usize) -> Option<Block> {
        let Block { start, end, column } = sequence;
        let is_item = |line: &usize| {
            let text = self.seen.get(*line).map(String::as_str);
            text.is_some_and(|text| {
                self::column(text) == Some(column)
                    && is_dash(text.get(column..).unwrap_or_default())
            })
        };
        let mut items = (start..end).filter(is_item).skip(at);
        let first = items.next()?;
        let next = items.next().unwrap_or(end);
        let line = self.seen.get_mut(first)?;
        line.replace_range(column..=column, " ");
        self.block(first, next)
    }

    fn entries(&self, block: Block) -> Vec<Entry> {
        let mut found: Vec<Entry> = Vec::new();
        let lines = self.seen.iter().enumerate();
        let lines = lines.skip(block.start).take(block.end - block.start);
        for (at, line) in lines {
            let text = line.get(block.column..).unwrap_or_default();
            let starts = column(line) == Some(block.column) && !is_dash(text);
            if let Some((key, rest)) = starts.then(|| key(text)).flatten() {
                let rest = uncommented(&rest).to_owned();
                found.push(Entry {
                    key,
                    rest,
                    line: at,
                    end: at + 1,
                });
            } else if column(line).is_some()
                && let Some(last) = found.last_mut()
            {
                last.end = at + 1;
            }
        }
        found
    }

    /// Behind the last line with content; comments and space at the end belong to what follows.
    fn content_end(&self, start: usize, end: usize) -> usize {
        let mut lines = self.seen.iter().enumerate().take(end).skip(start);
        let last = lines.rfind(|(_, line)| column(line).is_some());
        last.map_or(start, |(at, _)| at + 1)
    }
}

/// The column of a line's content; none for space and comments.
fn column(line: &str) -> Option<usize> {
    let text = line.trim_start_matches(' ');
    let is_idle = text.trim().is_empty() || text.starts_with('#');
    (!is_idle).then(|| line.len() - text.len())
}

fn is_dash(text: &str) -> bool {
    text.trim_end() == "-" || text.starts_with("- ")
}

/// The key of an entry, and what follows its colon.
fn key(text: &str) -> Option<(String, String)> {
    let text = text.trim_end();
    let quote = text
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''));
    if let Some(quote) = quote {
        let (key, rest) = text.get(1..)?.split_once(quote)?;
        return Some((
            key.to_owned(),
            rest.trim_start().strip_prefix(':')?.to_owned(),
        ));
    }
    match text.split_once(": ") {
        Some((key, rest)) => Some((key.trim_end().to_owned(), rest.to_owned())),
        None => Some((text.strip_suffix(':')?.trim_end().to_owned(), String::new())),
    }
}

fn uncommented(rest: &str) -> &str {
    let rest = rest.trim();
    if rest.starts_with('#') {
        return "";
    }
    rest.split_once(" #")
        .map_or(rest, |(rest, _)| rest)
        .trim_end()
}

/// The lines of the rest of a way, with the annotations at its end.
fn nested(
    rest: &[Step],
    annotations: &Annotations,
    column: usize,
    step: usize,
) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    let mut column = column;
    for one in rest {
        let Step::Key(key) = one else { return None };
        lines.push(format!("{:column$}{key}:\n", ""));
        column += step;
    }
    lines.extend(
        annotations
            .iter()
            .map(|(name, text)| pair(name, text, column)),
    );
    Some(lines)
}

fn pair(name: &str, text: &str, column: usize) -> String {
    // A text of JSON is a text of YAML.
    let text = Value::from(text);
    format!("{:column$}{name}: {text}\n", "")
}
