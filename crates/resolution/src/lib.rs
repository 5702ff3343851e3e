//! ironside-resolution
