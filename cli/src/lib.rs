//! ironside
