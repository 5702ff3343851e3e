//! From words to a command that runs: the only place that wires the command line together.
//!
//! Owns usage errors (exit code 255) and the dispatch to one module a command. Facts: cli-and-clients 1.1.

use std::ffi::OsString;
use std::process::ExitCode;

use ironside_chassis::clock::Clock;

use crate::command::{self, Session};
use crate::commands::{GLOBAL, ROOT};
use crate::demo;
use crate::env::Environment;
use crate::grammar::parse::Refusal;
use crate::grammar::{self, Parsed, usage};
use crate::output::{self, Level, Status};
use crate::process;

/// Exit code of a command line that was not understood.
const USAGE: u8 = 255;

/// Runs the command line; `name` is what it was called by, `args` what follows.
pub(crate) fn main(name: &str, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match grammar::parse(ROOT, name, GLOBAL, args) {
        Ok(parsed) => run(name, &parsed),
        Err(Refusal { path, error }) => {
            let usage = usage::usage(name, &path, GLOBAL);
            output::err(format!("Error: {error}\n{usage}\n").as_bytes());
            ExitCode::from(USAGE)
        }
    }
}

fn run(name: &str, parsed: &Parsed) -> ExitCode {
    let Parsed {
        path,
        values,
        words,
    } = parsed;
    if values.switch("help") {
        output::out(usage::help(name, path, GLOBAL).as_bytes());
        return ExitCode::SUCCESS;
    }
    let clock = Clock::system();
    let session = Session {
        program: name.to_owned(),
        environment: Environment::read(),
        status: Status::new(wants_json(parsed), clock.clone()),
        clock,
        values: values.clone(),
        words: words.clone(),
    };
    for (flag, instead) in values.deprecated() {
        deprecated(&session.status, flag, instead);
    }
    let command = path.get(1).map_or("", |command| command.name);
    match command {
        "" if values.switch("version") => command::version::lines(),
        "" => show_help(name, path),
        "help" => command::help::run(&session),
        "version" => command::version::run(&session),
        "build-info" => command::build_info::run(),
        "completion" => command::completion::run(&session, path),
        "sidecar" => ironside_sidecar::main(words.iter().cloned()),
        "sentry" => ironside_sentry::main(words.iter().cloned()),
        "injector" => ironside_injector::main(words.iter().cloned()),
        "operator" => ironside_operator::main(words.iter().cloned()),
        "detach" => process::detach::run(words),
        "exec" => process::exec::run(words),
        "sample" => demo::sample::run(words),
        "dashboard" | "mcpservers" | "scheduler" | "workflow" => {
            command::absent::run(&session, command)
        }
        "accesscontrol" => {
            let below = path.get(2).map_or("", |command| command.name);
            if below.is_empty() {
                return show_help(name, path);
            }
            finish(&session, command::access::run(&session, below))
        }
        "mtls" => {
            let below = path.get(2).map_or("", |command| command.name);
            finish(&session, command::mtls::run(&session, below))
        }
        _ => finish(&session, dispatch(&session, command)),
    }
}

/// Says that a flag is on its way out, always on the standard error.
fn deprecated(status: &Status, flag: &str, instead: &str) {
    let text = format!("Flag --{flag} has been deprecated, {instead}");
    let line = if status.is_json() {
        status.line(Level::Warning, &text)
    } else {
        format!("{text}\n")
    };
    output::err(line.as_bytes());
}

/// The commands that can fail on their way, those that talk to sidecars on a runtime of this thread.
///
/// It has to be this thread: the kernel ends children when the thread that started them ends.
fn dispatch(session: &Session, command: &str) -> anyhow::Result<ExitCode> {
    if command == "init" && !session.values.switch("kubernetes") {
        return command::init::init(session);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            "run" => command::run::run(session).await,
            "uninstall" => command::init::uninstall(session).await,
            "demo" => demo::run(session).await,
            "log-level" => command::log_level::run(session).await,
            "stop" => command::stop::run(session).await,
            "list" => command::list::run(session).await,
            "invoke" => command::invoke::run(session).await,
            "init" => command::install::init(session).await,
            "upgrade" => command::install::upgrade(session).await,
            "doctor" => command::doctor::run(session).await,
            "annotate" => command::annotate::run(session).await,
            "status" => command::cluster::status::run(session).await,
            "logs" => command::cluster::logs::run(session).await,
            "components" => command::cluster::resources::components(session).await,
            "configurations" => command::cluster::resources::configurations(session).await,
            "publish" => command::publish::run(session).await,
            other => Ok(command::absent::run(session, other)),
        }
    })
}

fn finish(session: &Session, result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        session.status.failure(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Whether status lines are JSON. A command that is only recognised takes its words as they are, this flag among them;
/// a flag of this name that is the command's own (`annotate`) speaks of something else.
fn wants_json(parsed: &Parsed) -> bool {
    let command = parsed.path.last();
    let only_recognised = command.is_some_and(|command| command.raw);
    let is_its_own = |flag: &grammar::Flag| flag.name == "log-as-json";
    let hidden = command.is_some_and(|command| command.flags.iter().any(is_its_own));
    !hidden && parsed.values.switch("log-as-json")
        || only_recognised && parsed.words.iter().any(|word| word == "--log-as-json")
}

fn show_help(name: &str, path: &[&'static grammar::Command]) -> ExitCode {
    output::out(usage::help(name, path, GLOBAL).as_bytes());
    ExitCode::SUCCESS
}
