//! Rows of a fact sheet, run one after another against shared programs.
//!
//! A failing row does not hide the later ones; the end names all that failed, by id.

use std::{future::Future, time::Duration};

use anyhow::Result;

use crate::{
    program::last_logs,
    wait::{self, Stopwatch},
};

/// No row takes longer.
const LIMIT: Duration = Duration::from_secs(40);

/// The rows of one test.
#[derive(Debug)]
pub struct Rows {
    sheet: &'static str,
    passed: Vec<String>,
    failed: Vec<String>,
}

impl Rows {
    /// Rows of the sheet of this name.
    #[must_use]
    pub fn of(sheet: &'static str) -> Self {
        Self {
            sheet,
            passed: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Runs one row.
    pub async fn row(&mut self, id: &str, fact: &str, check: impl Future<Output = Result<()>>) {
        drop(last_logs());
        let watch = Stopwatch::start();
        let outcome = wait::within(id, LIMIT, check).await.and_then(|inner| inner);
        let time = watch.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                eprintln!("{} {id}: ok ({time:.2} s)", self.sheet);
                self.passed.push(id.to_owned());
            }
            Err(error) => {
                eprintln!(
                    "{} {id}: FAILED ({time:.2} s): {fact}: {error:#}",
                    self.sheet
                );
                last_logs().iter().for_each(|log| eprintln!("{log}"));
                self.failed.push(format!("{id} ({fact}): {error:#}"));
            }
        }
    }

    /// Ends the test.
    ///
    /// # Panics
    /// When a row failed.
    pub fn close(self) {
        let Self {
            sheet,
            passed,
            failed,
        } = self;
        let total = passed.len().saturating_add(failed.len());
        assert!(
            failed.is_empty(),
            "{sheet}: {} of {total} rows failed:\n  {}",
            failed.len(),
            failed.join("\n  ")
        );
    }
}
