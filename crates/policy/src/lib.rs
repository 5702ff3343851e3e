//! ironside-policy
