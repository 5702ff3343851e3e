//! A Sentry under test.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use ironside_testkit::http::{self, Request};

use crate::{binaries, ports, program::Program, wait, world::World};

/// A running Sentry with a credential folder of its own.
#[derive(Debug)]
pub struct Sentry {
    /// The process behind it.
    pub program: Program,
    port: u16,
    credentials: PathBuf,
}

impl Sentry {
    /// Starts one that makes its own root, and waits until it issues.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub async fn start(world: &World) -> Result<Self> {
        Self::start_with(world, "").await
    }

    /// The same with keys below `spec.mtls` of its configuration, indented by four spaces.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub async fn start_with(world: &World, mtls: &str) -> Result<Self> {
        let credentials = world.path().join(world.fresh("credentials", "d"));
        fs::create_dir_all(&credentials)?;
        Self::start_at(world, credentials, ports::free(), mtls).await
    }

    /// Starts one on a given port over given credentials.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub async fn start_at(
        world: &World,
        credentials: PathBuf,
        port: u16,
        mtls: &str,
    ) -> Result<Self> {
        Self::start_over(world, credentials, port, mtls, &[]).await
    }

    /// The same with more flags.
    ///
    /// # Errors
    /// When it does not become healthy.
    pub async fn start_over(
        world: &World,
        credentials: PathBuf,
        port: u16,
        mtls: &str,
        flags: &[&str],
    ) -> Result<Self> {
        let (sentry, health) = Self::spawn(world, credentials, port, mtls, flags);
        let healthy = || async {
            let reply = http::send(health, &Request::get("/healthz")).await;
            reply.is_ok_and(|reply| reply.status() == 200).then_some(())
        };
        wait::until("health of sentry", Duration::from_secs(20), healthy)
            .await
            .inspect_err(|_| sentry.program.show())?;
        Ok(sentry)
    }

    /// As [`Sentry::start_at`], of one that serves and need not be healthy, as on the last day of its issuer.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn start_ending(
        world: &World,
        credentials: PathBuf,
        port: u16,
        mtls: &str,
    ) -> Result<Self> {
        let (sentry, _health) = Self::spawn(world, credentials, port, mtls, &[]);
        sentry
            .program
            .logged("Running gRPC server on port")
            .await
            .inspect_err(|_| sentry.program.show())?;
        Ok(sentry)
    }

    /// Starts one; returns it and its health port.
    fn spawn(
        world: &World,
        credentials: PathBuf,
        port: u16,
        mtls: &str,
        flags: &[&str],
    ) -> (Self, u16) {
        let health = ports::free();
        let config = world.write(
            &world.fresh("sentry", "yaml"),
            &format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: daprsystem\nspec:\n  mtls:\n    enabled: true\n{mtls}"
            ),
        );
        let mut command = Command::new(binaries::path("sentry"));
        command
            .env_clear()
            .arg("--config")
            .arg(config)
            .arg("--issuer-credentials")
            .arg(&credentials);
        for (flag, value) in [
            ("--port", port),
            ("--healthz-port", health),
            ("--metrics-port", ports::free()),
        ] {
            command.args([flag, &value.to_string()]);
        }
        for flag in [
            "--listen-address",
            "--healthz-listen-address",
            "--metrics-listen-address",
        ] {
            command.args([flag, "127.0.0.1"]);
        }
        let program = Program::start(world, "sentry", command.args(flags));
        let sentry = Self {
            program,
            port,
            credentials,
        };
        (sentry, health)
    }

    /// Its gRPC port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its credential folder.
    #[must_use]
    pub fn credentials(&self) -> &std::path::Path {
        &self.credentials
    }

    /// Its root certificates as PEM.
    ///
    /// # Panics
    /// If it has none yet.
    #[must_use]
    pub fn anchors(&self) -> String {
        fs::read_to_string(self.credentials.join("ca.crt"))
            .context("a healthy sentry has roots")
            .unwrap_or_else(|error| panic!("{error:#}"))
    }
}
