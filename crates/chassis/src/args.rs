//! Command lines as the reference's programs read them.
//!
//! [`Flags`] is a table of flags and the rules of process-interface 1: one
//! dash or two, `--flag=false` but never `--flag false`, comma lists that
//! append, Go durations and integers, positional words ignored, exit code 2
//! for a bad command line. What values mean, and environment variables, are
//! the program's business.

mod csv;
mod flags;
mod number;
mod quantity;

pub use csv::{CsvError, split_csv};
pub use flags::{Exit, Flag, Flags, Kind, Parsed};
pub use ironside_resources::annotations::is_truthy;
pub use ironside_resources::{DurationError, GoDuration};
pub use number::{NumberError, parse_bool, parse_decimal, parse_int, parse_uint};
pub use quantity::{QuantityError, parse_quantity};
