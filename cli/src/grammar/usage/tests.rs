//! The layout of usage blocks, and that the table is sound.

use super::*;
use crate::commands::{GLOBAL, ROOT};

fn of(word: &str) -> String {
    let command = ROOT.commands.iter().find(|one| one.name == word).unwrap();
    usage("ironside", &[ROOT, command], GLOBAL)
}

/// Fact: CL-01.
#[test]
fn usage_lists_the_flags() {
    let text = of("run");
    assert!(
        text.starts_with("Usage:\n  ironside run [flags] [command]\n"),
        "{text}"
    );
    assert!(text.contains("\n  -a, --app-id string"), "{text}");
    assert!(text.contains("      --app-max-concurrency int"), "{text}");
    assert!(text.contains("(default \"4Mi\")"), "{text}");
    assert!(text.contains("(default -1)"), "{text}");
    assert!(!text.contains("--app-ssl"), "{text}");
    assert!(text.contains("\nGlobal Flags:\n  -h, --help"), "{text}");
}

#[test]
fn usage_of_the_program_lists_the_commands() {
    let text = usage("dapr", &[ROOT], GLOBAL);
    assert!(text.contains("\n  dapr [command]\n"), "{text}");
    assert!(text.contains("\n  run "), "{text}");
    assert!(!text.contains("\n  exec"), "{text}");
}

/// A command's own flag hides the global one of its name, as `annotate --log-as-json` does; a letter has one meaning.
#[test]
fn no_two_flags_of_a_command_share_a_name() {
    fn check(command: &Command) {
        let is_own = |flag: &&Flag| command.flags.iter().any(|own| own.name == flag.name);
        let global = GLOBAL.iter().filter(|flag| !is_own(flag));
        let flags: Vec<&Flag> = command.flags.iter().chain(global).collect();
        for (index, flag) in flags.iter().enumerate() {
            for other in flags.iter().skip(index + 1) {
                assert_ne!(flag.name, other.name, "{}", command.name);
                assert!(
                    flag.short.is_none() || flag.short != other.short,
                    "{} {}",
                    command.name,
                    flag.name
                );
            }
        }
        command.commands.iter().for_each(check);
    }
    check(ROOT);
}
