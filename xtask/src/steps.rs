//! Named steps with progress lines: what runs, how long it took, what failed.
//!
//! A failing step does not hide the later ones: all run, and the end names every failure.

#![expect(
    clippy::disallowed_types,
    reason = "the stopwatch of the progress lines"
)]

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};

/// The steps of one recipe.
#[derive(Debug)]
pub(crate) struct Steps {
    started: Instant,
    failed: Vec<String>,
    count: usize,
}

impl Steps {
    /// Starts the clock.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            failed: Vec::new(),
            count: 0,
        }
    }

    /// Runs `command` as the step `name` and remembers a failure.
    ///
    /// # Errors
    /// If the command could not be started.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.step(name, || {
            let status = command.status().with_context(|| {
                format!(
                    "could not start {}",
                    command.get_program().to_string_lossy()
                )
            })?;
            Ok(status.success())
        })
    }

    /// Runs `command` as the step `name`; later steps are pointless without it.
    ///
    /// # Errors
    /// If the command could not be started, or failed.
    pub(crate) fn must(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.run(name, command)?;
        if self.failed.iter().any(|failed| failed == name) {
            bail!("{name}: failed, see above");
        }
        Ok(())
    }

    /// Runs `work` as the step `name`; `Ok(false)` is a failure that does not stop the recipe.
    ///
    /// # Errors
    /// What `work` returns: a failure that makes later steps pointless.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<bool>) -> Result<()> {
        self.count = self.count.saturating_add(1);
        eprintln!("\n== {}. {name}", self.count);
        let begun = Instant::now();
        let passed = work().with_context(|| name.to_owned())?;
        let verdict = if passed { "ok" } else { "FAILED" };
        eprintln!(
            "== {}. {name}: {verdict} ({:.1} s)",
            self.count,
            begun.elapsed().as_secs_f64()
        );
        if !passed {
            self.failed.push(name.to_owned());
        }
        Ok(())
    }

    /// Says something that is neither success nor failure.
    #[expect(clippy::unused_self, reason = "notes belong to the run of a recipe")]
    pub(crate) fn note(&self, text: &str) {
        eprintln!("-- {text}");
    }

    /// Ends the recipe.
    ///
    /// # Errors
    /// Names the steps that failed.
    pub(crate) fn close(self) -> Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        if !self.failed.is_empty() {
            bail!("failed after {seconds:.1} s: {}", self.failed.join(", "));
        }
        eprintln!("\n== all {} steps passed ({seconds:.1} s)", self.count);
        Ok(())
    }
}
