//! ironside-identity
