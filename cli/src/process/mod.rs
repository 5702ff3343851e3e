//! Processes the command line starts: tied to its life, in groups of their own, stopped in order.
//!
//! Owns how a child is started, watched and ended, and who has the terminal. Refuses to know what runs in it.
//! Facts: cli-and-clients 1.7, 1.8, CH1 to CH4.

pub(crate) mod child;
pub(crate) mod detach;
pub(crate) mod exec;
pub(crate) mod signals;
pub(crate) mod terminal;

pub(crate) use child::{Change, Child, Ended, Launch};
pub(crate) use signals::Interrupts;
pub(crate) use terminal::Terminal;
