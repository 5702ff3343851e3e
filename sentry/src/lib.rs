//! ironside-sentry
