//! ironside-chassis
