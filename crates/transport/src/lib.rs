//! ironside-transport
