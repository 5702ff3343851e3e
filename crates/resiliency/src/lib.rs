//! ironside-resiliency
