//! Words in, a command and its values out.
//!
//! Pure: reads no environment and prints nothing. Owns the error texts of a wrong command line, which scripts and test
//! suites compare. Facts: cli-and-clients 1.1 "Flag grammar" and the row below it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};

use ironside_chassis::args::{parse_bool, parse_int};

use super::{Command, Flag, Kind};

/// A command line that was understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The commands named, outermost (the program) first.
    pub path: Vec<&'static Command>,
    /// What the flags were given.
    pub values: Values,
    /// The words that are no flags.
    pub words: Vec<OsString>,
}

/// What the flags of a command line were given, by long name.
#[derive(Debug, Default, Clone)]
pub(crate) struct Values(BTreeMap<&'static str, Given>);

#[derive(Debug, Clone)]
struct Given {
    flag: Flag,
    texts: Vec<String>,
}

/// Why a command line was not understood; the text is what the user reads after `Error: `.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UsageError {
    /// No flag of that name.
    #[error("unknown flag: --{0}")]
    Flag(String),
    /// No flag of that letter.
    #[error("unknown shorthand flag: {0:?} in -{1}")]
    Short(char, String),
    /// A word such as `--=x`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// The last word is a flag that needs a value.
    #[error("flag needs an argument: {0}")]
    Missing(String),
    /// The value does not fit the flag.
    #[error(
        "invalid argument {value:?} for \"{flag}\" flag: {reason}: parsing {value:?}: invalid syntax"
    )]
    Value {
        /// What was given.
        value: String,
        /// The flag as `-p, --app-port`.
        flag: String,
        /// Which reader refused it.
        reason: &'static str,
    },
    /// No command of that name.
    #[error("unknown command {word:?} for {program:?}")]
    Command {
        /// What was written.
        word: String,
        /// The command it was written after.
        program: String,
    },
    /// Flags that must be given were not.
    #[error("required flag(s) {0} not set")]
    Required(String),
}

/// A refused command line, with the command whose usage helps.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The commands understood so far, outermost first.
    pub path: Vec<&'static Command>,
    /// What was wrong.
    pub error: UsageError,
}

/// Reads the words after the program's name.
///
/// # Errors
/// [`Refusal`] with the first word that does not fit.
pub(crate) fn parse(
    root: &'static Command,
    program: &str,
    global: &'static [Flag],
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, Refusal> {
    let mut reader = Reader {
        program,
        global,
        rest: args.into_iter().collect(),
        parsed: Parsed {
            path: vec![root],
            values: Values::default(),
            words: Vec::new(),
        },
    };
    match reader.run() {
        Ok(()) => Ok(reader.parsed),
        Err(error) => Err(Refusal {
            path: reader.parsed.path,
            error,
        }),
    }
}

struct Reader<'a> {
    program: &'a str,
    global: &'static [Flag],
    rest: VecDeque<OsString>,
    parsed: Parsed,
}

// === impl Reader ===

impl Reader<'_> {
    fn run(&mut self) -> Result<(), UsageError> {
        while let Some(word) = self.rest.pop_front() {
            if self.command().raw {
                self.parsed.words.push(word);
                continue;
            }
            match flag_text(&word).map(str::to_owned).as_deref() {
                Some("--") => {
                    self.parsed.words.extend(self.rest.drain(..));
                }
                Some(text) => match text.strip_prefix("--") {
                    Some(long) => self.long(long, text)?,
                    None => self.shorts(text.get(1..).unwrap_or_default())?,
                },
                None => self.word(word)?,
            }
        }
        self.required()
    }

    fn command(&self) -> &'static Command {
        const NONE: Command = Command::new("", "");
        self.parsed.path.last().copied().unwrap_or(&NONE)
    }

    fn word(&mut self, word: OsString) -> Result<(), UsageError> {
        let commands = self.command().commands;
        if commands.is_empty() || !self.parsed.words.is_empty() {
            self.parsed.words.push(word);
            return Ok(());
        }
        let text = word.to_string_lossy();
        if let Some(found) = commands.iter().find(|one| one.answers_to(&text)) {
            self.parsed.path.push(found);
            return Ok(());
        }
        Err(UsageError::Command {
            word: text.into_owned(),
            program: super::usage::title(self.program, &self.parsed.path),
        })
    }

    fn find(&self, wanted: impl Fn(&Flag) -> bool) -> Option<Flag> {
        let own = self.command().flags.iter();
        own.chain(self.global).copied().find(wanted)
    }

    fn long(&mut self, long: &str, whole: &str) -> Result<(), UsageError> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(UsageError::Syntax(whole.to_owned()));
        }
        let Some(flag) = self.find(|flag| flag.name == name) else {
            return Err(UsageError::Flag(name.to_owned()));
        };
        let value = match value {
            Some(value) => value,
            None if flag.kind == Kind::Switch => "true".to_owned(),
            None => self
                .next_value()
                .ok_or_else(|| UsageError::Missing(format!("--{name}")))?,
        };
        self.parsed.values.give(flag, value)
    }

    fn shorts(&mut self, letters: &str) -> Result<(), UsageError> {
        // A single dash before a long name is a slip, never `-a` with the value `pp-id`.
        let name = letters.split('=').next().unwrap_or(letters);
        if name.chars().count() > 1 && self.find(|flag| flag.name == name).is_some() {
            let first = letters.chars().next().unwrap_or('-');
            return Err(UsageError::Short(first, letters.to_owned()));
        }
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            let Some(flag) = self.find(|flag| flag.short == Some(letter)) else {
                return Err(UsageError::Short(letter, rest.to_owned()));
            };
            let after = rest.get(letter.len_utf8()..).unwrap_or_default();
            if let Some(value) = after.strip_prefix('=') {
                return self.parsed.values.give(flag, value.to_owned());
            }
            if flag.kind == Kind::Switch {
                self.parsed.values.give(flag, "true".to_owned())?;
                rest = after;
                continue;
            }
            if !after.is_empty() {
                return self.parsed.values.give(flag, after.to_owned());
            }
            let value = self
                .next_value()
                .ok_or_else(|| UsageError::Missing(format!("{letter:?} in -{letters}")))?;
            return self.parsed.values.give(flag, value);
        }
        Ok(())
    }

    fn next_value(&mut self) -> Option<String> {
        let value = self.rest.pop_front()?;
        Some(value.to_string_lossy().into_owned())
    }

    fn required(&self) -> Result<(), UsageError> {
        if self.parsed.values.switch("help") {
            return Ok(());
        }
        let missing: Vec<String> = self
            .command()
            .flags
            .iter()
            .filter(|flag| flag.required && !self.parsed.values.given(flag.name))
            .map(|flag| format!("{:?}", flag.name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(UsageError::Required(missing.join(", ")))
    }
}

fn flag_text(word: &OsStr) -> Option<&str> {
    word.to_str()
        .filter(|text| text.len() > 1 && text.starts_with('-'))
}

// === impl Values ===

impl Values {
    fn give(&mut self, flag: Flag, value: String) -> Result<(), UsageError> {
        let refuse = |reason| UsageError::Value {
            value: value.clone(),
            flag: spelled(&flag),
            reason,
        };
        match flag.kind {
            Kind::Switch if parse_bool(&value).is_err() => return Err(refuse("strconv.ParseBool")),
            Kind::Number if parse_int(&value).is_err() => return Err(refuse("strconv.ParseInt")),
            Kind::Switch | Kind::Number | Kind::Text | Kind::List | Kind::Repeated => {}
        }
        let given = self.0.entry(flag.name).or_insert_with(|| Given {
            flag,
            texts: Vec::new(),
        });
        match flag.kind {
            Kind::Switch | Kind::Number | Kind::Text => given.texts = vec![value],
            Kind::Repeated => given.texts.push(value),
            Kind::List => given.texts.extend(
                value
                    .split(',')
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned),
            ),
        }
        Ok(())
    }

    /// Whether the flag was on the command line.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of the flags on the command line, in alphabetical order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// The flags on the command line that are on their way out, with what to use instead.
    pub(crate) fn deprecated(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.values().filter_map(|given| {
            given
                .flag
                .deprecated
                .map(|instead| (given.flag.name, instead))
        })
    }

    /// The text of a flag on the command line.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.texts.last().map(String::as_str)
    }

    /// All texts of a flag on the command line.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.0
            .get(name)
            .map(|given| given.texts.clone())
            .unwrap_or_default()
    }

    /// Whether a switch is on.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|text| parse_bool(text) == Ok(true))
    }

    /// The number of a flag on the command line.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| parse_int(text).ok())
    }
}

/// The flag as usage errors name it: `-p, --app-port`.
fn spelled(flag: &Flag) -> String {
    match flag.short {
        Some(short) => format!("-{short}, --{}", flag.name),
        None => format!("--{}", flag.name),
    }
}

#[cfg(test)]
mod tests;
