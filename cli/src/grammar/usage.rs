//! The usage block and the help page of a command, in the layout scripts know from the reference.

use std::fmt::Write as _;

use super::{Command, Flag, Kind};

/// The command's full name: the program and the words that led to it.
pub(crate) fn title(program: &str, path: &[&'static Command]) -> String {
    let words = path.iter().skip(1).map(|command| command.name);
    std::iter::once(program)
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The help page: what the command does, then its usage.
pub(crate) fn help(program: &str, path: &[&'static Command], global: &'static [Flag]) -> String {
    let about = path.last().map_or("", |command| command.about);
    format!("{about}\n\n{}", usage(program, path, global))
}

/// The block that begins with `Usage:`.
pub(crate) fn usage(program: &str, path: &[&'static Command], global: &'static [Flag]) -> String {
    let Some(command) = path.last().copied() else {
        return String::new();
    };
    let title = title(program, path);
    let mut out = String::from("Usage:\n");
    if command.commands.is_empty() {
        let words = if command.words.is_empty() { "" } else { " " };
        line(
            &mut out,
            &format!("  {title} [flags]{words}{}", command.words),
        );
    } else {
        line(&mut out, &format!("  {title} [command]"));
    }
    if !command.aliases.is_empty() {
        line(
            &mut out,
            &format!(
                "\nAliases:\n  {}, {}",
                command.name,
                command.aliases.join(", ")
            ),
        );
    }
    examples(&mut out, program, command);
    commands(&mut out, command);
    section(&mut out, "Flags", command.flags);
    section(&mut out, "Global Flags", global);
    if !command.commands.is_empty() {
        line(
            &mut out,
            &format!("\nUse \"{title} [command] --help\" for more information about a command."),
        );
    }
    out
}

fn examples(out: &mut String, program: &str, command: &Command) {
    if command.examples.is_empty() {
        return;
    }
    line(out, "\nExamples:");
    for (index, example) in command.examples.iter().enumerate() {
        if index > 0 {
            line(out, "");
        }
        line(
            out,
            &format!("# {}\n{program} {}", example.what, example.how),
        );
    }
}

fn commands(out: &mut String, command: &Command) {
    let shown = || command.commands.iter().filter(|one| !one.hidden);
    let Some(width) = shown().map(|one| one.name.len()).max() else {
        return;
    };
    line(out, "\nAvailable Commands:");
    for one in shown() {
        line(out, &format!("  {:width$} {}", one.name, one.about));
    }
}

fn section(out: &mut String, title: &str, flags: &[Flag]) {
    let shown = || flags.iter().filter(|flag| !flag.hidden);
    let Some(width) = shown().map(|flag| head(flag).chars().count()).max() else {
        return;
    };
    line(out, &format!("\n{title}:"));
    for flag in shown() {
        line(
            out,
            &format!("{:width$}   {}{}", head(flag), flag.help, default(flag)),
        );
    }
}

/// The flag's name and the kind of its value, as the left column shows them.
fn head(flag: &Flag) -> String {
    let short = match flag.short {
        Some(short) => format!("-{short}, "),
        None => "    ".to_owned(),
    };
    let kind = match flag.kind {
        Kind::Switch => "",
        Kind::Number => " int",
        Kind::Text => " string",
        Kind::List => " strings",
        Kind::Repeated => " stringArray",
    };
    format!("  {short}--{}{kind}", flag.name)
}

fn default(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (_, "") | (Kind::Number, "0") | (Kind::Switch, "false") => String::new(),
        (Kind::Number | Kind::Switch, value) => format!(" (default {value})"),
        (Kind::Text, value) => format!(" (default {value:?})"),
        (Kind::List | Kind::Repeated, value) => format!(" (default [{value}])"),
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _never_fails = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests;
