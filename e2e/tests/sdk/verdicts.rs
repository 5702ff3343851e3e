//! The verdict lines of programs, collected into one table per SDK.

use std::{collections::BTreeMap, process::Command, time::Duration};

use anyhow::{Result, ensure};
use ironside_e2e::{
    World,
    program::{Program, last_logs},
};

/// Rows that are not run, and why.
const DEFERRED: &[(&str, &str, &str)] = &[
    (
        "python",
        "SD-16",
        "the ready suites of 3.4 are sources outside the registries",
    ),
    ("quickstarts", "QS-04", "needs Resiliency policies"),
    ("quickstarts", "QS-08", "needs a cluster"),
];

/// The table of one SDK.
pub(crate) struct Verdicts {
    sdk: &'static str,
    rows: BTreeMap<String, Result<(), String>>,
}

impl Verdicts {
    pub(crate) fn of(sdk: &'static str) -> Self {
        Self {
            sdk,
            rows: BTreeMap::new(),
        }
    }

    /// Runs a program to its end and takes its rows; one of `expected` that it does not print has failed.
    pub(crate) async fn collect(
        &mut self,
        world: &World,
        name: &str,
        command: &mut Command,
        expected: &[&str],
    ) {
        let program = Program::start(world, name, command);
        self.finish(program, expected).await;
    }

    /// The same for a program that was started before.
    pub(crate) async fn finish(&mut self, mut program: Program, expected: &[&str]) {
        let ended = program.exit(Duration::from_secs(150)).await;
        let log = program.log();
        let mut fine = ended.is_ok();
        for line in log.lines().filter_map(|line| line.strip_prefix("ROW ")) {
            let (row, verdict) = match line.split_once(" FAILED ") {
                Some((row, why)) => (row, Err(why.to_owned())),
                None => (line.trim_end_matches(" passed"), Ok(())),
            };
            fine &= verdict.is_ok();
            self.rows.insert(row.to_owned(), verdict);
        }
        for row in expected {
            let absent = || Err(format!("the program did not get there ({ended:?})"));
            fine &= self
                .rows
                .entry((*row).to_owned())
                .or_insert_with(absent)
                .is_ok();
        }
        if !fine {
            program.show();
        }
    }

    /// Takes a row that was judged here.
    pub(crate) async fn row(&mut self, id: &str, check: impl Future<Output = Result<()>>) {
        drop(last_logs());
        let limit = Duration::from_secs(120);
        let verdict = ironside_e2e::wait::within(id, limit, check)
            .await
            .and_then(|inner| inner);
        if verdict.is_err() {
            last_logs().iter().for_each(|log| eprintln!("{log}"));
        }
        let verdict = verdict.map_err(|error| error.to_string());
        self.rows.insert(id.to_owned(), verdict);
    }

    /// Prints the table and judges it.
    pub(crate) fn close(self) -> Result<()> {
        let Self { sdk, rows } = self;
        let failed = rows.values().filter(|verdict| verdict.is_err()).count();
        let deferred: Vec<_> = DEFERRED
            .iter()
            .filter(|(owner, ..)| *owner == sdk)
            .collect();
        let mut table = format!(
            "\n{sdk}: {} passed, {failed} failed, {} deferred\n",
            rows.len() - failed,
            deferred.len()
        );
        for (row, verdict) in &rows {
            let text = verdict
                .as_ref()
                .map_or_else(|why| format!("FAILED: {why}"), |()| "passed".to_owned());
            table.push_str(&format!("  {row:<48} {text}\n"));
        }
        for (_, row, reason) in &deferred {
            table.push_str(&format!("  {row:<48} deferred: {reason}\n"));
        }
        eprintln!("{table}");
        let named: Vec<_> = rows
            .iter()
            .filter_map(|(row, verdict)| Some(format!("{row}: {}", verdict.as_ref().err()?)))
            .collect();
        ensure!(
            failed == 0 && !rows.is_empty(),
            "{sdk}: {failed} of {} rows failed: {}",
            rows.len(),
            named.join("; ")
        );
        Ok(())
    }
}
