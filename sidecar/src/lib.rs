//! ironside-sidecar
