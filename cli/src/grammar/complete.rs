//! Completion scripts, made by clap's generator from our own table.
//!
//! clap never parses a command line here: it is only the form in which its generator wants to read the table.

use clap::{Arg, ArgAction, Command as Shape};
use clap_complete::{Shell, generate};

use super::{Command, Flag, Kind};

/// The script that makes a shell complete this program.
pub(crate) fn script(
    shell: Shell,
    program: &str,
    root: &'static Command,
    global: &'static [Flag],
) -> Vec<u8> {
    let mut shape = shape(root).args(global.iter().map(arg));
    let mut out = Vec::new();
    generate(shell, &mut shape, program, &mut out);
    out
}

fn shape(command: &'static Command) -> Shape {
    Shape::new(command.name)
        .about(command.about)
        .aliases(command.aliases.iter().copied())
        .hide(command.hidden)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(command.flags.iter().filter(|flag| !flag.hidden).map(arg))
        .subcommands(command.commands.iter().filter(|one| !one.hidden).map(shape))
}

fn arg(flag: &Flag) -> Arg {
    let action = match flag.kind {
        Kind::Switch => ArgAction::SetTrue,
        Kind::Number | Kind::Text => ArgAction::Set,
        Kind::List | Kind::Repeated => ArgAction::Append,
    };
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help(flag.help)
        .action(action);
    match flag.short {
        Some(short) => arg.short(short),
        None => arg,
    }
}
