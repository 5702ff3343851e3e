//! The grammar of the command line: what a command and a flag are, and how words become values.
//!
//! The table of commands (`crate::commands`) is written in these types and is the single source for parsing, usage
//! texts, completion scripts and the reference pages. The rules are those of GNU style as the reference's library has
//! them (flags and positional words mix, a value may begin with a hyphen), which no ready parser gives together with
//! the exact error texts. Refuses to know what any flag means.

pub(crate) mod complete;
pub(crate) mod parse;
pub(crate) mod usage;

pub(crate) use parse::{Parsed, Values, parse};

/// What kind of value a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Set by its name alone; a value only with `=`.
    Switch,
    /// A decimal, `0x`, `0o` or `0b` integer, possibly negative.
    Number,
    /// Any text; a later use replaces an earlier one.
    Text,
    /// Values separated by commas, repeatable.
    List,
    /// One value a use, repeatable.
    Repeated,
}

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// The long name, without dashes.
    pub name: &'static str,
    /// The one-letter name.
    pub short: Option<char>,
    /// What it takes.
    pub kind: Kind,
    /// The value when the flag is absent, as text; empty for none.
    pub default: &'static str,
    /// One line for the usage block.
    pub help: &'static str,
    /// Left out of usage and completion.
    pub hidden: bool,
    /// Must be given.
    pub required: bool,
    /// What to use instead, when the flag is on its way out.
    pub deprecated: Option<&'static str>,
}

/// One command, with its subcommands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    /// The word that names it.
    pub name: &'static str,
    /// Other words for it.
    pub aliases: &'static [&'static str],
    /// One line for the list of commands.
    pub about: &'static str,
    /// What follows the name in the `Usage:` line, `[flags]` apart.
    pub words: &'static str,
    /// Examples, one a line, each a comment or a command without the program's name.
    pub examples: &'static [Example],
    /// Its own flags.
    pub flags: &'static [Flag],
    /// Commands below it.
    pub commands: &'static [Self],
    /// Left out of usage and completion.
    pub hidden: bool,
    /// The words after the name are taken as they are: for commands that are only recognised.
    pub raw: bool,
}

/// One example of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example {
    /// What it does.
    pub what: &'static str,
    /// The command, without the program's name.
    pub how: &'static str,
}

// === impl Flag ===

impl Flag {
    const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            short: None,
            kind,
            default: "",
            help,
            hidden: false,
            required: false,
            deprecated: None,
        }
    }

    /// A flag that is set by its name alone.
    pub(crate) const fn switch(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Switch, name, help)
    }

    /// A flag that takes an integer.
    pub(crate) const fn number(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Number, name, help)
    }

    /// A flag that takes text.
    pub(crate) const fn text(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Text, name, help)
    }

    /// A flag that takes a comma-separated list and may be repeated.
    pub(crate) const fn list(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::List, name, help)
    }

    /// A flag that takes one value a use and may be repeated.
    pub(crate) const fn repeated(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Repeated, name, help)
    }

    /// The same flag with a one-letter name.
    pub(crate) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// The same flag with a value for when it is absent.
    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// The same flag, left out of usage and completion.
    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The same flag, which must be given.
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same flag, on its way out: hidden, and each use prints a notice.
    pub(crate) const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self.hidden = true;
        self
    }
}

// === impl Command ===

impl Command {
    /// A command without flags or subcommands.
    pub(crate) const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            about,
            words: "",
            examples: &[],
            flags: &[],
            commands: &[],
            hidden: false,
            raw: false,
        }
    }

    /// The same command with flags.
    pub(crate) const fn flags(mut self, flags: &'static [Flag]) -> Self {
        self.flags = flags;
        self
    }

    /// The same command with subcommands.
    pub(crate) const fn commands(mut self, commands: &'static [Self]) -> Self {
        self.commands = commands;
        self
    }

    /// The same command with other names.
    pub(crate) const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The same command with words after its name in the `Usage:` line.
    pub(crate) const fn words(mut self, words: &'static str) -> Self {
        self.words = words;
        self
    }

    /// The same command with examples.
    pub(crate) const fn examples(mut self, examples: &'static [Example]) -> Self {
        self.examples = examples;
        self
    }

    /// The same command, left out of usage and completion.
    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The same command, whose words are taken as they are.
    pub(crate) const fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Whether this word names the command.
    pub(crate) fn answers_to(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }
}
