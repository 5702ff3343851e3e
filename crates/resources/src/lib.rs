//! ironside-resources
