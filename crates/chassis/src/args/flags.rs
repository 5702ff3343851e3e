//! A table of flags, and a command line read by it.
//!
//! clap does the walking; what differs from clap's own taste (dashes, lists,
//! booleans, exit codes, notices) is arranged here, once for all programs. The
//! table is public data, so the configuration reference is made from it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use ironside_resources::GoDuration;

use super::{parse_bool, parse_int, parse_uint, split_csv};

/// How the value of a flag is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `--f`, `--f=true`, `--f=false`.
    Bool,
    /// A signed integer.
    Int,
    /// An unsigned integer.
    Uint,
    /// A Go duration.
    Duration,
    /// Comma-separated, repeatable.
    List,
}

/// One flag of a program.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// How its value is spelled.
    pub kind: Kind,
    /// The value when absent, spelled as on the command line.
    pub default: &'static str,
    /// What it does, one line.
    pub help: &'static str,
    /// What to use instead, when it is deprecated.
    pub deprecated: Option<&'static str>,
    /// Left out of the usage text.
    pub hidden: bool,
}

/// All flags of a program.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    program: &'static str,
    table: &'static [Flag],
}

/// A command line that was understood.
#[derive(Clone, Debug)]
pub struct Parsed {
    values: HashMap<&'static str, Given>,
    notices: Vec<String>,
}

/// Why the program ends before it began, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: u8,
    /// Text for stdout.
    pub stdout: String,
    /// Text for stderr.
    pub stderr: String,
}

#[derive(Clone, Debug)]
struct Given {
    value: Value,
    given: bool,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Uint(u64),
    Duration(GoDuration),
    List(Vec<String>),
}

/// Exit code for a command line that cannot be read: process-interface 1.
const BAD_COMMAND_LINE: u8 = 2;
/// Name of the catch-all for positional words, which no flag can have.
const WORDS: &str = " words";

// === impl Flag ===

impl Flag {
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            help,
            deprecated: None,
            hidden: false,
        }
    }

    /// A flag that takes any text.
    #[must_use]
    pub const fn text(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Text, default, help)
    }

    /// A boolean; `default` is `"true"` or `"false"`.
    #[must_use]
    pub const fn bool(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Bool, default, help)
    }

    /// A signed integer.
    #[must_use]
    pub const fn int(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Int, default, help)
    }

    /// An unsigned integer.
    #[must_use]
    pub const fn uint(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Uint, default, help)
    }

    /// A Go duration.
    #[must_use]
    pub const fn duration(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Duration, default, help)
    }

    /// A list; `default` is comma-separated.
    #[must_use]
    pub const fn list(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::List, default, help)
    }

    /// Marks the flag as deprecated: it works, and its use gives one notice with this advice.
    #[must_use]
    pub const fn deprecated(mut self, advice: &'static str) -> Self {
        self.deprecated = Some(advice);
        self
    }

    /// Leaves the flag out of the usage text.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).help(self.help);
        let arg = arg.hide(self.hidden || self.deprecated.is_some());
        let arg = arg.allow_hyphen_values(true);
        match self.kind {
            Kind::Bool => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            Kind::List => arg.action(ArgAction::Append).num_args(1),
            Kind::Text | Kind::Int | Kind::Uint | Kind::Duration => {
                arg.action(ArgAction::Set).num_args(1)
            }
        }
    }

    /// Reads the words given for this flag, or its default.
    fn read(&self, words: &[String]) -> Result<Value, String> {
        let last = words.last().map_or(self.default, String::as_str);
        let refuse = |why: &dyn std::fmt::Display| {
            let name = self.name;
            format!("invalid argument {last:?} for \"--{name}\" flag: {why}")
        };
        Ok(match self.kind {
            Kind::Text => Value::Text(last.to_owned()),
            Kind::Bool => Value::Bool(parse_bool(last).map_err(|why| refuse(&why))?),
            Kind::Int => Value::Int(parse_int(last).map_err(|why| refuse(&why))?),
            Kind::Uint => Value::Uint(parse_uint(last).map_err(|why| refuse(&why))?),
            Kind::Duration => Value::Duration(last.parse().map_err(|why| refuse(&why))?),
            Kind::List if words.is_empty() => {
                Value::List(split_csv(self.default).map_err(|why| refuse(&why))?)
            }
            Kind::List => {
                let lists: Result<Vec<_>, _> = words.iter().map(|word| split_csv(word)).collect();
                Value::List(lists.map_err(|why| refuse(&why))?.concat())
            }
        })
    }
}

// === impl Flags ===

impl Flags {
    /// Returns the flags of `program`.
    #[must_use]
    pub const fn new(program: &'static str, table: &'static [Flag]) -> Self {
        Self { program, table }
    }

    /// Returns the flags, in the order of the table.
    #[must_use]
    pub const fn table(&self) -> &'static [Flag] {
        self.table
    }

    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// [`Exit`] with code 0 for `--help`, with code 2 for a bad command line.
    pub fn parse<I>(&self, words: I) -> Result<Parsed, Exit>
    where
        I: IntoIterator<Item = OsString>,
    {
        let matches = self.command().try_get_matches_from(two_dashes(words));
        let matches = matches.map_err(|error| self.refuse(&said(&error)))?;
        if matches.get_flag("help") {
            return Err(Exit {
                code: 0,
                stdout: String::new(),
                stderr: self.usage(),
            });
        }
        self.read(&matches).map_err(|error| self.refuse(&error))
    }

    /// Returns the usage text.
    #[must_use]
    pub fn usage(&self) -> String {
        self.command().render_help().to_string()
    }

    fn command(&self) -> Command {
        let help = Arg::new("help").long("help").short('h');
        let words = Arg::new(WORDS).num_args(0..).hide(true);
        Command::new(self.program)
            .no_binary_name(true)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .args_override_self(true)
            .override_usage(format!("{} [flags]", self.program))
            .args(self.table.iter().map(Flag::arg))
            .arg(help.action(ArgAction::SetTrue).help("print this text"))
            .arg(words)
    }

    fn read(&self, matches: &ArgMatches) -> Result<Parsed, String> {
        let mut parsed = Parsed {
            values: HashMap::with_capacity(self.table.len()),
            notices: Vec::new(),
        };
        for flag in self.table {
            let words: Vec<String> = matches
                .get_many::<String>(flag.name)
                .map(|words| words.cloned().collect())
                .unwrap_or_default();
            let value = flag.read(&words)?;
            let given = matches.contains_id(flag.name);
            if let (true, Some(advice)) = (given, flag.deprecated) {
                let notice = format!("Flag --{} has been deprecated, {advice}", flag.name);
                parsed.notices.push(notice);
            }
            parsed.values.insert(flag.name, Given { value, given });
        }
        Ok(parsed)
    }

    fn refuse(&self, why: &str) -> Exit {
        Exit {
            code: BAD_COMMAND_LINE,
            stdout: String::new(),
            stderr: format!("{why}\n\n{}", self.usage()),
        }
    }
}

/// Rewrites `-flag` to `--flag` where it is longer than two characters and no value follows `--`.
fn two_dashes(words: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    words.into_iter().map(|word| {
        let one_dash = word
            .to_str()
            .is_some_and(|text| text.len() > 2 && text.starts_with('-') && !text.starts_with("--"));
        if !one_dash {
            return word;
        }
        let mut two = OsString::from("-");
        two.push(word);
        two
    })
}

/// Says what clap found in the words of the reference's flag library.
fn said(error: &clap::Error) -> String {
    let named = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let name = named.unwrap_or_default();
    let name = name.split([' ', '=', '[']).next().unwrap_or_default();
    // clap's kinds are open-ended; whatever else it finds, it says itself.
    if error.kind() == ErrorKind::UnknownArgument {
        format!("unknown flag: {name}")
    } else if matches!(
        error.kind(),
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues
    ) {
        format!("flag needs an argument: {name}")
    } else {
        error.to_string()
    }
}

// === impl Parsed ===

impl Parsed {
    /// Returns whether the flag was on the command line.
    ///
    /// # Panics
    /// This and the getters below: when the table has no such flag of that kind.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.entry(name).given
    }

    /// Returns the value of a [`Kind::Text`] flag.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        let Value::Text(text) = self.value(name) else {
            wrong_kind(name)
        };
        text
    }

    /// Returns the value of a [`Kind::Bool`] flag.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        let Value::Bool(value) = self.value(name) else {
            wrong_kind(name)
        };
        *value
    }

    /// Returns the value of a [`Kind::Int`] flag.
    #[must_use]
    pub fn int(&self, name: &str) -> i64 {
        let Value::Int(value) = self.value(name) else {
            wrong_kind(name)
        };
        *value
    }

    /// Returns the value of a [`Kind::Uint`] flag.
    #[must_use]
    pub fn uint(&self, name: &str) -> u64 {
        let Value::Uint(value) = self.value(name) else {
            wrong_kind(name)
        };
        *value
    }

    /// Returns the value of a [`Kind::Duration`] flag.
    #[must_use]
    pub fn duration(&self, name: &str) -> GoDuration {
        let Value::Duration(value) = self.value(name) else {
            wrong_kind(name)
        };
        *value
    }

    /// Returns the value of a [`Kind::List`] flag.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        let Value::List(list) = self.value(name) else {
            wrong_kind(name)
        };
        list
    }

    /// Returns one line for every deprecated flag that was used, for stderr.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    fn value(&self, name: &str) -> &Value {
        &self.entry(name).value
    }

    #[expect(
        clippy::panic,
        reason = "a name that is not in the program's own table"
    )]
    fn entry(&self, name: &str) -> &Given {
        let Some(entry) = self.values.get(name) else {
            panic!("invariant: the table has the flag {name}")
        };
        entry
    }
}

#[expect(
    clippy::panic,
    reason = "a kind that is not in the program's own table"
)]
fn wrong_kind(name: &str) -> ! {
    panic!("invariant: the flag {name} is of the asked kind")
}

// === impl Exit ===

impl Exit {
    /// Writes both texts and returns the code for `main`.
    #[must_use]
    pub fn print(&self) -> ExitCode {
        // Nobody is left to tell when even the standard streams fail.
        let _stdout = std::io::stdout().write_all(self.stdout.as_bytes());
        let _stderr = std::io::stderr().write_all(self.stderr.as_bytes());
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests;
