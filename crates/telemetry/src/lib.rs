//! ironside-telemetry
