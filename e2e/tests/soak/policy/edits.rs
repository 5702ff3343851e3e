//! What is edited: AccessControl files that two callees share, and the block in the Configuration of each.
//!
//! A key is a path of its own with a rule of its own, so what an edit changes is one decision, and what a call may
//! be answered is known from the history of its key alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Keys whose rule is in a file of its own.
pub(crate) const FILES: usize = 12;
/// Keys whose rule is in the block; they follow the others.
pub(crate) const BLOCKS: usize = 4;
/// All keys.
pub(crate) const KEYS: usize = FILES + BLOCKS;

/// Numbers that look random, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % sides as u64).unwrap_or(0)
    }
}

/// The path of a key as an HTTP caller writes it.
pub(crate) fn path_of(key: usize) -> String {
    format!("k{key}")
}

/// The method of a key as a gRPC caller writes it.
pub(crate) fn method_of(key: usize) -> String {
    format!("/k.S/k{key}")
}

/// What kind of edit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Replace,
    Overwrite,
    Create,
    Remove,
    Rename,
    Break,
    Heal,
    Block,
}

/// An edit that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) kind: Kind,
    /// The key whose decision it changes, and to what.
    pub(crate) change: Option<(usize, bool)>,
}

/// The files and what they say.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    configurations: Vec<PathBuf>,
    /// The file of each key, if there is one, and whether it allows.
    files: Vec<Option<(PathBuf, bool)>>,
    blocks: [bool; BLOCKS],
    /// The key whose file is broken at the moment.
    broken: Option<usize>,
    dice: Dice,
    names: usize,
}

impl Files {
    /// Writes all rules; each allows.
    pub(crate) fn new(folder: PathBuf, seed: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let files = (0..FILES).map(|key| {
            let path = folder.join(format!("{key}.yaml"));
            fs::write(&path, object(key, true))?;
            Ok(Some((path, true)))
        });
        Ok(Self {
            files: files.collect::<io::Result<_>>()?,
            folder,
            configurations: Vec::new(),
            blocks: [true; BLOCKS],
            broken: None,
            dice: Dice::new(seed),
            names: 0,
        })
    }

    /// The block that all keys are open under, for the start.
    pub(crate) fn block() -> String {
        block([true; BLOCKS])
    }

    /// The Configuration of a callee, which holds [`Self::block`].
    pub(crate) fn configured(&mut self, path: PathBuf) {
        self.configurations.push(path);
    }

    /// The next edit.
    pub(crate) fn edit(&mut self) -> io::Result<Made> {
        if let Some(key) = self.broken.take() {
            return self.put(key, Kind::Heal);
        }
        let key = self.dice.roll(FILES);
        match self.dice.roll(20) {
            0 | 1 => self.change_block(),
            2 | 3 if self.files[key].is_some() => self.remove(key),
            4..=6 if self.files[key].is_some() => self.rename(key),
            7 if self.files[key].is_some() => self.break_file(key),
            8..=12 => self.put(key, Kind::Overwrite),
            _ => self.put(key, Kind::Replace),
        }
    }

    /// Writes the other decision of a key.
    fn put(&mut self, key: usize, kind: Kind) -> io::Result<Made> {
        let (path, allows) = match self.files[key].take() {
            Some((path, allowed)) => (path, !allowed),
            // No file allows.
            None => (self.fresh(key), false),
        };
        let is_new = !path.exists();
        if kind == Kind::Overwrite {
            fs::write(&path, object(key, allows))?;
        } else {
            replace(&path, &object(key, allows))?;
        }
        self.files[key] = Some((path, allows));
        Ok(Made {
            kind: if is_new { Kind::Create } else { kind },
            change: Some((key, allows)),
        })
    }

    fn remove(&mut self, key: usize) -> io::Result<Made> {
        let was = self.files[key].take();
        let change = was.as_ref().filter(|(_, allowed)| !allowed);
        let change = change.map(|_| (key, true));
        if let Some((path, _)) = was {
            fs::remove_file(path)?;
        }
        Ok(Made {
            kind: Kind::Remove,
            change,
        })
    }

    fn rename(&mut self, key: usize) -> io::Result<Made> {
        let to = self.fresh(key);
        if let Some((path, _)) = &mut self.files[key] {
            fs::rename(&path, &to)?;
            *path = to;
        }
        Ok(Made {
            kind: Kind::Rename,
            change: None,
        })
    }

    fn break_file(&mut self, key: usize) -> io::Result<Made> {
        if let Some((path, allowed)) = &self.files[key] {
            let good = object(key, !allowed);
            let bad = match self.dice.roll(4) {
                0 => good.replace("policies:", "policys:"),
                1 => good.replace("action: ", "action: maybe-"),
                2 => good.replace("operations: [", "operations: [[["),
                _ => good.replace(
                    "defaultAction: allow",
                    "defaultAction: allow\n  defaultAction: deny",
                ),
            };
            replace(path, &bad)?;
        }
        self.broken = Some(key);
        Ok(Made {
            kind: Kind::Break,
            change: None,
        })
    }

    fn change_block(&mut self) -> io::Result<Made> {
        let which = self.dice.roll(BLOCKS);
        let before = block(self.blocks);
        self.blocks[which] = !self.blocks[which];
        let after = block(self.blocks);
        for path in &self.configurations {
            let text = fs::read_to_string(path)?;
            replace(path, &text.replace(&before, &after))?;
        }
        Ok(Made {
            kind: Kind::Block,
            change: Some((FILES + which, self.blocks[which])),
        })
    }

    fn fresh(&mut self, key: usize) -> PathBuf {
        self.names += 1;
        self.folder.join(format!("{key}-{}.yaml", self.names))
    }
}

/// Writes a file whole, as careful editors do.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

fn action(allows: bool) -> &'static str {
    if allows { "allow" } else { "deny" }
}

/// The rule of one key, for both apps.
fn object(key: usize, allows: bool) -> String {
    let action = action(allows);
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata:\n  name: k{key}\nspec:\n  defaultAction: allow\n  policies:\n  - appId: web\n    namespace: default\n    operations: [{{name: /{}, action: {action}}}, {{name: {}, action: {action}}}]\n",
        path_of(key),
        method_of(key)
    )
}

fn block(allows: [bool; BLOCKS]) -> String {
    let rules = allows.iter().enumerate().map(|(which, allows)| {
        let (key, action) = (FILES + which, action(*allows));
        format!(
            "      - {{name: /{}, httpVerb: ['*'], action: {action}}}\n      - {{name: {}, httpVerb: ['*'], action: {action}}}\n",
            path_of(key),
            method_of(key)
        )
    });
    format!(
        "  accessControl:\n    defaultAction: allow\n    policies:\n    - appId: web\n      namespace: default\n      trustDomain: public\n      operations:\n{}",
        rules.collect::<String>()
    )
}

/// One state of a key: since when it may be in force, and since when it is, at each callee.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) allows: bool,
    pub(crate) written: Duration,
    pub(crate) seen: [Duration; 2],
}

/// All states of all keys.
#[derive(Debug)]
pub(crate) struct History(Vec<Vec<State>>);

impl History {
    /// Everything allowed from the beginning.
    pub(crate) fn new() -> Self {
        let first = State {
            allows: true,
            written: Duration::ZERO,
            seen: [Duration::ZERO; 2],
        };
        Self(vec![vec![first]; KEYS])
    }

    pub(crate) fn add(&mut self, key: usize, state: State) {
        self.0[key].push(state);
    }

    /// Whether a call that took from `start` to `end` may have been answered so: the state was written before its
    /// end, and the next one not yet in force at its beginning.
    pub(crate) fn permits(
        &self,
        (key, callee): (usize, usize),
        (start, end): (Duration, Duration),
        allowed: bool,
    ) -> bool {
        let states = &self.0[key];
        let over = states.iter().skip(1).map(|next| next.seen[callee]);
        let mut spans = states.iter().zip(over.chain([Duration::MAX]));
        spans.any(|(state, over)| state.allows == allowed && state.written <= end && over >= start)
    }
}

/// The judge knows right from wrong.
#[test]
fn a_call_is_judged_by_what_was_in_force_meanwhile() {
    let ms = Duration::from_millis;
    let mut history = History::new();
    history.add(
        3,
        State {
            allows: false,
            written: ms(100),
            seen: [ms(120), ms(130)],
        },
    );
    for (start, end, callee, allowed, want) in [
        (10, 20, 0, true, true),
        (10, 99, 0, false, false),
        (10, 100, 0, false, true),
        (119, 125, 0, true, true),
        (121, 125, 0, true, false),
        (121, 125, 1, true, true),
        (121, 125, 0, false, true),
    ] {
        let found = history.permits((3, callee), (ms(start), ms(end)), allowed);
        assert_eq!(found, want, "{start} {end} {callee} {allowed}");
    }
}
