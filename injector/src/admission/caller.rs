//! Who may have pods injected.
//!
//! Owns the patterns `namespace:name` of kubernetes 2.6 and the built-in ones. A pattern that can't be read ends the
//! start with its text, whichever list it stands in. The reference also remembers identities of service accounts; they
//! add nothing to the names, so nobody has to list all accounts of the cluster for them.

use super::review::UserInfo;

/// Controllers that come with Kubernetes and some common ones, as `namespace:name`.
const BUILT_IN: &[(&str, &str)] = &[
    ("kube-system", "replicaset-controller"),
    ("kube-system", "replication-controller"),
    ("kube-system", "deployment-controller"),
    ("kube-system", "cronjob-controller"),
    ("kube-system", "job-controller"),
    ("kube-system", "statefulset-controller"),
    ("kube-system", "daemon-set-controller"),
    (
        "openshift-operator-lifecycle-manager",
        "olm-operator-serviceaccount",
    ),
    ("tekton-pipelines", "tekton-pipelines-controller"),
    ("mirrord", "mirrord-operator"),
];
/// Groups of administrators; clusters made by kubeadm have had the second one since 1.29.
const GROUPS: [&str; 2] = ["system:masters", "kubeadm:cluster-admins"];
const ACCOUNT: &str = "system:serviceaccount:";

/// All patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Callers {
    accounts: Vec<(Glob, Glob)>,
}

/// A pattern of one name: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a character that stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// This character.
    Exactly(char),
    /// One character but a slash.
    Any,
    /// Any number of characters but slashes.
    Run,
    /// One character between two of these pairs, or outside of all.
    Class {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
}

/// A pattern that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("invalid pattern {0:?}: it must be namespace:name, with exactly one colon")]
    Colon(Box<str>),
    #[error("invalid pattern {0:?}: namespace and name are empty")]
    Empty(Box<str>),
    #[error("invalid pattern {0:?}: the class or the escape does not end, or is empty")]
    Class(Box<str>),
}

// === impl Callers ===

impl Callers {
    /// Reads lists of patterns, separated by commas, and adds them to the built-in ones.
    ///
    /// # Errors
    /// [`PatternError`] for the first pattern that is none.
    pub(crate) fn new(lists: &[&str]) -> Result<Self, PatternError> {
        let literal = |text: &&str| Glob(text.chars().map(Part::Exactly).collect());
        let built_in = BUILT_IN.iter();
        let mut accounts: Vec<_> = built_in
            .map(|(namespace, name)| (literal(namespace), literal(name)))
            .collect();
        let entries = lists.iter().flat_map(|list| list.split(','));
        for entry in entries.map(str::trim).filter(|entry| !entry.is_empty()) {
            accounts.push(read(entry)?);
        }
        Ok(Self { accounts })
    }

    /// Says whether pods of this user get a sidecar.
    pub(crate) fn allow(&self, user: &UserInfo) -> bool {
        let groups = user.groups.iter().flatten();
        if groups
            .into_iter()
            .any(|group| GROUPS.contains(&group.as_str()))
        {
            return true;
        }
        let Some(account) = user.username.strip_prefix(ACCOUNT) else {
            return false;
        };
        let mut parts = account.split(':');
        let (Some(namespace), Some(name)) = (parts.next(), parts.next()) else {
            return false;
        };
        let mut accounts = self.accounts.iter();
        accounts.any(|(first, second)| first.matches(namespace) && second.matches(name))
    }
}

fn read(entry: &str) -> Result<(Glob, Glob), PatternError> {
    let (namespace, name) = entry
        .split_once(':')
        .filter(|(_, name)| !name.contains(':'))
        .ok_or_else(|| PatternError::Colon(entry.into()))?;
    if namespace.is_empty() && name.is_empty() {
        return Err(PatternError::Empty(entry.into()));
    }
    let glob = |text| Glob::read(text).ok_or_else(|| PatternError::Class(entry.into()));
    Ok((glob(namespace)?, glob(name)?))
}

// === impl Glob ===

impl Glob {
    fn read(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            parts.push(match letter {
                '*' => Part::Run,
                '?' => Part::Any,
                '\\' => Part::Exactly(letters.next()?),
                '[' => read_class(&mut letters)?,
                other => Part::Exactly(other),
            });
        }
        Some(Self(parts))
    }

    /// Goes back to the last `*` only, so the time is bounded by the product of the lengths.
    fn matches(&self, text: &str) -> bool {
        let letters: Vec<char> = text.chars().collect();
        let (mut part, mut at) = (0, 0);
        let mut last_run = None;
        loop {
            match (self.0.get(part), letters.get(at)) {
                (None, None) => return true,
                (Some(Part::Run), _) => {
                    last_run = Some((part, at));
                    part += 1;
                    continue;
                }
                (Some(wanted), Some(letter)) if wanted.matches(*letter) => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                _ => {}
            }
            // The run takes one more character, if it may.
            match last_run {
                Some((run, from)) if letters.get(from).is_some_and(|letter| *letter != '/') => {
                    last_run = Some((run, from + 1));
                    (part, at) = (run + 1, from + 1);
                }
                Some(_) | None => return false,
            }
        }
    }
}

fn read_class(letters: &mut std::str::Chars<'_>) -> Option<Part> {
    let is_negated = letters.as_str().starts_with('^');
    if is_negated {
        letters.next();
    }
    let one = |letters: &mut std::str::Chars<'_>| match letters.next()? {
        '\\' => letters.next(),
        '-' => None,
        other => Some(other),
    };
    let mut ranges = Vec::new();
    while !letters.as_str().starts_with(']') {
        let low = one(letters)?;
        let high = if letters.as_str().starts_with('-') {
            letters.next();
            one(letters).filter(|high| *high != ']')?
        } else {
            low
        };
        ranges.push((low, high));
    }
    letters.next();
    (!ranges.is_empty()).then_some(Part::Class { ranges, is_negated })
}

// === impl Part ===

impl Part {
    fn matches(&self, letter: char) -> bool {
        match self {
            Self::Exactly(wanted) => *wanted == letter,
            Self::Any => letter != '/',
            Self::Run => false,
            Self::Class { ranges, is_negated } => {
                let mut ranges = ranges.iter();
                ranges.any(|(low, high)| (*low..=*high).contains(&letter)) != *is_negated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(username: &str) -> UserInfo {
        UserInfo {
            username: username.to_owned(),
            groups: None,
        }
    }

    fn account(namespace: &str, name: &str) -> UserInfo {
        user(&format!("{ACCOUNT}{namespace}:{name}"))
    }

    /// KI-12, KI-16
    #[test]
    fn controllers_and_administrators_are_allowed_and_nobody_else() {
        let callers = Callers::new(&[]).unwrap();
        for (namespace, name) in BUILT_IN {
            assert!(callers.allow(&account(namespace, name)), "{name}");
        }
        for group in GROUPS {
            let admin = UserInfo {
                groups: Some(vec!["x".into(), group.into()]),
                ..user("somebody")
            };
            assert!(callers.allow(&admin), "{group}");
        }
        for other in [
            account("some-ns", "some-sa"),
            account("kube-system", "other"),
            account("default", "replicaset-controller"),
            user("system:serviceaccount:x"),
            user("system:serviceaccount:"),
            user("kube-system:replicaset-controller"),
            user("kubernetes-admin"),
            user(""),
        ] {
            assert!(!callers.allow(&other), "{other:?}");
        }
    }

    /// KI-13, KI-14
    #[test]
    fn patterns_are_globs() {
        let check = |pattern: &str, namespace: &str, name: &str| {
            Callers::new(&[pattern])
                .unwrap()
                .allow(&account(namespace, name))
        };
        for (pattern, namespace, name, allowed) in [
            ("ns1:sa1", "ns1", "sa1", true),
            ("ns1:sa1", "ns1", "sa2", false),
            ("ns1:sa1", "ns2", "sa1", false),
            (" a:b , ns1:sa1 ,,", "ns1", "sa1", true),
            ("ns*:sa?", "ns", "sa1", true),
            ("ns*:sa?", "ns-77", "sax", true),
            ("ns*:sa?", "ns-77", "sa", false),
            ("ns*:sa?", "ns-77", "sa12", false),
            ("*:*", "any", "one", true),
            ("*:*", "a/b", "one", false),
            ("[ab]ns:x", "ans", "x", true),
            ("[ab]ns:x", "cns", "x", false),
            ("[^ab]ns:x", "cns", "x", true),
            ("[a-c]ns:x", "bns", "x", true),
            ("vc-proj*:vc-sa*", "vc-project-1", "vc-sa", true),
            ("a*b*c:x", "aXbYc", "x", true),
            ("a*b*c:x", "aXcYb", "x", false),
            ("a\\*:x", "a*", "x", true),
            ("a\\*:x", "ab", "x", false),
            (":x", "a", "x", false),
        ] {
            assert_eq!(
                check(pattern, namespace, name),
                allowed,
                "{pattern} {namespace}:{name}"
            );
        }
    }

    /// KI-15
    #[test]
    fn bad_patterns_are_named() {
        for bad in ["abc", "a:b:c", ":", "[ab:x", "a:[]", "a:[z-", "a\\"] {
            let error = Callers::new(&["good:one", bad]).unwrap_err().to_string();
            assert!(error.contains("invalid pattern"), "{bad}: {error}");
        }
        let error = Callers::new(&["ns1:sa1,oops"]).unwrap_err().to_string();
        assert!(error.contains("\"oops\""), "{error}");
    }

    #[test]
    fn a_long_pattern_takes_no_long_time() {
        let pattern = format!("{}:x", "*a".repeat(200));
        let callers = Callers::new(&[&pattern]).unwrap();
        assert!(!callers.allow(&account(&"a".repeat(3000), "y")));
        assert!(!callers.allow(&account(&"b".repeat(3000), "x")));
    }
}
