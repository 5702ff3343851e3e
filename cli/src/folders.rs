//! Where things lie on this machine: `.dapr`, the `daprd` link, the private folder of this user.
//!
//! Facts: cli-and-clients 1.1 (`<root>`, Layout), issue "name resolution" (the private folder is the one that holds the
//! registry of sidecars).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::process::{geteuid, getpid};

use crate::env::Environment;

/// The folder `<root>/.dapr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home(PathBuf);

// === impl Home ===

impl Home {
    /// Finds the folder: the flag, else `DAPR_RUNTIME_PATH`, else the home folder; none if there is no home.
    pub(crate) fn find(flag: Option<&str>, environment: &Environment) -> Option<Self> {
        let root = flag
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| environment.path("DAPR_RUNTIME_PATH"))
            .or_else(|| environment.path("HOME"))?;
        Some(Self::under(&root))
    }

    /// The folder below the given root.
    pub(crate) fn under(root: &Path) -> Self {
        Self(root.join(".dapr"))
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the programs lie.
    pub(crate) fn programs(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// Where resource files lie unless told otherwise.
    pub(crate) fn resources(&self) -> PathBuf {
        self.0.join("components")
    }

    /// The configuration file unless told otherwise.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.0.join("config.yaml")
    }
}

/// Returns the file to run as the sidecar, making the `daprd` link when it is missing.
///
/// The link lies in `<root>/.dapr/bin`, or in this user's private folder when there is no home to write to.
pub(crate) fn sidecar(home: Option<&Home>, environment: &Environment) -> anyhow::Result<PathBuf> {
    let failed = match home.map(|home| link(&home.programs())) {
        Some(Ok(link)) => return Ok(link),
        Some(Err(error)) => Some(error),
        None => None,
    };
    let spare = private(environment).and_then(|folder| link(&folder.join("bin")));
    match (spare, failed) {
        (Ok(link), _) => Ok(link),
        (Err(_), Some(error)) | (Err(error), None) => Err(error).context("making the daprd link"),
    }
}

/// Makes the link to this program in a folder unless something of that name is there.
///
/// A link of ours to another copy of this program is renewed; any other file is somebody's own sidecar and is kept.
pub(crate) fn link(folder: &Path) -> anyhow::Result<PathBuf> {
    let link = folder.join("daprd");
    let me = std::env::current_exe().context("finding this program")?;
    match fs::read_link(&link) {
        Ok(target) if target == me => return Ok(link),
        Ok(target) if target.exists() && target.file_name() != me.file_name() => return Ok(link),
        Ok(_) => {}
        Err(_) if link.exists() => return Ok(link),
        Err(_) => {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?
        }
    }
    // Made beside and moved over it, because parallel runs do the same.
    let beside = folder.join(format!(".daprd.{}", getpid().as_raw_nonzero()));
    symlink(&me, &beside)
        .and_then(|()| fs::rename(&beside, &link))
        .with_context(|| format!("making {}", link.display()))?;
    Ok(link)
}

/// Returns this user's private folder, making it when it is missing.
///
/// `$XDG_RUNTIME_DIR/ironside`, else `<tmp>/ironside-<uid>`; refused when it belongs to somebody else or others may
/// write to it.
pub(crate) fn private(environment: &Environment) -> anyhow::Result<PathBuf> {
    let runtime = environment
        .path("XDG_RUNTIME_DIR")
        .map(|base| base.join("ironside"));
    if let Some(folder) = runtime
        && own(&folder).is_ok()
    {
        return Ok(folder);
    }
    let uid = geteuid().as_raw();
    let folder = environment.temporary().join(format!("ironside-{uid}"));
    own(&folder).with_context(|| format!("preparing {}", folder.display()))?;
    Ok(folder)
}

/// Makes a folder that only this user may enter, or checks one that is there.
pub(crate) fn own(folder: &Path) -> anyhow::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        bail!("it is not a folder of this user");
    }
    if found.mode() & 0o022 != 0 {
        bail!("others may write to it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Fact: CL-11.
    #[test]
    fn the_flag_beats_the_variable_beats_the_home() {
        let environment = Environment::from([("HOME", "/h"), ("DAPR_RUNTIME_PATH", "/d")]);
        for (flag, environment, expected) in [
            (Some("/e"), &environment, Some("/e/.dapr")),
            (None, &environment, Some("/d/.dapr")),
            (None, &Environment::from([("HOME", "/h")]), Some("/h/.dapr")),
            (None, &Environment::default(), None),
        ] {
            let found = Home::find(flag, environment);
            assert_eq!(found.as_ref().map(Home::path), expected.map(Path::new));
        }
    }

    #[test]
    fn a_missing_link_is_made_and_a_stale_one_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        let made = link(&bin).unwrap();
        let me = std::env::current_exe().unwrap();
        assert_eq!(fs::read_link(&made).unwrap(), me);
        fs::remove_file(&made).unwrap();
        symlink("/nowhere/at/all", &made).unwrap();
        assert_eq!(fs::read_link(link(&bin).unwrap()).unwrap(), me);
    }

    #[test]
    fn a_sidecar_of_somebody_else_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("daprd"), "theirs").unwrap();
        let kept = link(folder.path()).unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"theirs");
    }

    #[test]
    fn without_a_home_the_link_is_in_the_private_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let environment = Environment::from([("XDG_RUNTIME_DIR", path)]);
        let link = sidecar(None, &environment).unwrap();
        assert_eq!(link, folder.path().join("ironside/bin/daprd"));
        let unwritable = Home::under(Path::new("/proc/nowhere"));
        assert_eq!(sidecar(Some(&unwritable), &environment).unwrap(), link);
    }

    #[test]
    fn a_private_folder_that_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(own(&open).is_err());
        fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(own(&open).is_ok());
        let through_link = folder.path().join("link");
        symlink(&open, &through_link).unwrap();
        assert!(own(&through_link).is_err());
    }
}
