//! Tests on a real cluster, each in a namespace of its own.
//!
//! `cargo xtask e2e k8s` runs them all; with a cluster up, one alone:
//! `cargo test -p ironside-e2e --test k8s -- --ignored pods::`.

#![cfg(test)]

mod access_control;
mod authority;
mod breaking;
mod call;
mod cli;
mod crds;
mod endings;
mod footprint;
mod identities;
mod inject;
mod install;
mod life;
mod live;
mod manifests;
mod moving;
mod namespaced;
mod node;
mod operators;
mod outages;
mod pods;
mod reviews;
mod rights;
mod rollouts;
mod roots;
mod sdk;
mod services;
mod shop;
mod threefold;
mod upgrade;
mod webhook;
