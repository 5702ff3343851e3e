//! ironside-testkit
