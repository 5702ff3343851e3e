//! `--access-log-file` and its bounds.

use ironside_chassis::args::parse_quantity;

use super::{ConfigError, flags, path};
use crate::config::{AccessLogFile, flags::Given};

/// Smallest file: no line comes near.
const MIN_SIZE: i64 = 64 << 10;
/// Most files: more than this is a typing error.
const MAX_FILES: u64 = 1000;

/// The file, if there is one; its bounds are checked in any case.
pub(super) fn access_log_file(given: &Given) -> Result<Option<AccessLogFile>, ConfigError> {
    let text = given.text("access-log-max-size");
    let size = parse_quantity(text).map_err(|cause| refused("size", text, cause))?;
    if size < MIN_SIZE {
        return Err(refused("size", text, "the least is 64Ki"));
    }
    let files = given.uint("access-log-max-files");
    if files == 0 || files > MAX_FILES {
        let bounds = format!("it is not 1 to {MAX_FILES}");
        return Err(refused("files", &files.to_string(), bounds));
    }
    Ok(
        path(given.text("access-log-file")).map(|path| AccessLogFile {
            path,
            max_size: size.unsigned_abs(),
            max_files: u32::try_from(files).unwrap_or(u32::MAX),
        }),
    )
}

fn refused(what: &str, value: &str, cause: impl ToString) -> ConfigError {
    flags(format!(
        "invalid value for 'access-log-max-{what}': {value}: {}",
        cause.to_string()
    ))
}
