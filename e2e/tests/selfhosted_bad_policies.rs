//! Files of access control that nobody should have written, at a real callee with a good policy in force.
//!
//! Each is refused with a line that names file, place and way out; the last good version decides on, and memory stays
//! within bounds. Large ones that are allowed take effect.

#![cfg(test)]

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use ironside_e2e::{Sentry, Sidecar, Spec, World, wait};
use ironside_testkit::http::{Answer, HttpApp, Request};

/// Memory that reading any such file may take beyond what the process had, in KiB.
const MEMORY: u64 = 128 * 1024;
/// Longest time in which a build without optimisation reads 3 MB of rules on a busy machine.
const MANY: Duration = Duration::from_secs(90);
const HEAD: &str = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata:\n  name: ";
const GOOD: &str = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata:\n  name: good\nspec:\n  policies:\n  - appId: web\n    namespace: default\n    operations:\n    - {name: /a, action: allow}\n";
const LAST_GOOD: &str = "the last good state stays in force until the file is corrected";

struct Rig {
    app: HttpApp,
    web: Sidecar,
    shop: Sidecar,
    folder: PathBuf,
    _sentry: Sentry,
    _world: World,
}

impl Rig {
    async fn start() -> Self {
        let world = World::new();
        let sentry = Sentry::start(&world).await.unwrap();
        let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
        let shop = Spec::new("shop").app(app.port()).mtls(&sentry);
        let shop = shop
            .resource("good.yaml", GOOD)
            .ready(&world)
            .await
            .unwrap();
        let web = Spec::new("web").mtls(&sentry).start(&world).await.unwrap();
        let mut entries = fs::read_dir(world.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let folder = entries.find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("shop-resources-") && name.ends_with(".d")
        });
        Self {
            app,
            web,
            shop,
            folder: folder.unwrap(),
            _sentry: sentry,
            _world: world,
        }
    }

    async fn status(&self, path: &str) -> u16 {
        let request = Request::new("GET", &format!("/v1.0/invoke/shop/method/{path}"));
        self.web.send(&request).await.unwrap().status()
    }

    async fn becomes(&self, path: &str, status: u16) {
        let look = || async { (self.status(path).await == status).then_some(()) };
        let waited = wait::until(&format!("{path} answered with {status}"), wait::LONG, look).await;
        waited.inspect_err(|_| self.shop.program.show()).unwrap();
    }

    /// The good policy decides: `a` passes, `b` never reaches the app.
    async fn is_in_force(&self) {
        assert_eq!(self.status("a").await, 200);
        drop(self.app.take());
        assert_eq!(self.status("b").await, 403);
        assert!(self.app.take().is_empty(), "the app never saw it");
    }

    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let (draft, path) = (self.folder.join("draft"), self.folder.join(name));
        fs::write(&draft, content).unwrap();
        fs::rename(&draft, &path).unwrap();
        path
    }

    /// A file is refused by a line with these words, and takes nothing away.
    async fn refused(&self, name: &str, content: &[u8], words: &[&str]) {
        let before = self.shop.program.log().len();
        let path = self.put(name, content);
        let look = || async {
            let log = self.shop.program.log();
            let new = log.get(before..).unwrap_or_default().to_owned();
            let mut lines = new.lines().filter(|line| line.contains(LAST_GOOD));
            lines.next().map(str::to_owned)
        };
        let told = wait::until(&format!("a line about {name}"), wait::LONG, look).await;
        let told = told.inspect_err(|_| self.shop.program.show()).unwrap();
        for word in [name].iter().chain(words) {
            assert!(told.contains(word), "{name}: {word:?} in {told}");
        }
        assert!(
            told.len() < 4096,
            "{name}: a line for people, not {} bytes",
            told.len()
        );
        assert!(told.contains("level=error"), "{told}");
        self.is_in_force().await;
        fs::remove_file(path).unwrap();
        self.heals().await;
    }

    /// Another good file is taken: the process has not got stuck on the bad one.
    async fn heals(&self) {
        let extra = GOOD
            .replace("name: good", "name: extra")
            .replace("/a,", "/c,");
        let path = self.put("extra.yaml", extra.as_bytes());
        self.becomes("c", 200).await;
        fs::remove_file(path).unwrap();
        self.becomes("c", 403).await;
    }

    /// The most memory that the callee has ever had, in KiB.
    fn peak(&self) -> u64 {
        let status = format!("/proc/{}/status", self.shop.program.id());
        let status = fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn object(name: &str, spec: &str) -> String {
    format!("{HEAD}{name}\nspec:\n{spec}")
}

fn entry(rest: &str) -> String {
    format!("  policies:\n  - appId: web\n    namespace: default\n{rest}")
}

/// Rules that do not allow what the test asks for.
fn rules(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "    - {{name: /r{n}, action: allow}}").unwrap();
        text
    })
}

/// Nine levels of nine references each: 3 GB of text, were it ever written out.
fn bomb() -> String {
    let mut text = format!("{HEAD}bomb\n  annotations:\n    a0: &a0 xxxxxxxx\n");
    for level in 1..10 {
        let references = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "    a{level}: &a{level} [{references}]").unwrap();
    }
    text + "spec:\n  defaultAction: allow\n"
}

/// Row K204: what cannot be decoded is told with file, line and word.
#[tokio::test]
async fn unreadable_policies_leave_the_last_good_one() {
    let rig = Rig::start().await;
    rig.is_in_force().await;
    let text = |text: &str| text.as_bytes().to_vec();
    let allow = "    operations:\n    - {name: /b, action: allow}\n";
    let rows: [(&str, Vec<u8>, &[&str]); 9] = [
        (
            "unknown-field.yaml",
            text(&object("x", &entry("    operatons: []\n"))),
            &["operatons", "line 9", "operations"],
        ),
        (
            "wrong-enum.yaml",
            text(&object("x", &entry("    defaultAction: permit\n"))),
            &["permit", "line 9", "allow"],
        ),
        (
            "wrong-type.yaml",
            text(&object("x", "  policies: everything\n")),
            &["line 6"],
        ),
        (
            "duplicate-key.yaml",
            text(&object("x", &format!("{}{allow}", entry(allow)))),
            &["duplicate", "operations", "line 11"],
        ),
        (
            "bad-name.yaml",
            text(&object(
                "x",
                &entry("    operations:\n    - {name: /b/, action: allow}\n"),
            )),
            &["line 10", "/spec/policies/0/operations/0/name"],
        ),
        (
            "second-document.yaml",
            text(&format!(
                "# one\n---\n{}",
                object("x", "  defaultAction: permit\n")
            )),
            &["line 8", "permit"],
        ),
        (
            "no-utf8.yaml",
            [
                object("x", "  defaultAction: allow\n").as_bytes(),
                b"# \xff\xfe\n",
            ]
            .concat(),
            &["UTF-8"],
        ),
        (
            "no-yaml.yaml",
            text(&object("x", "  policies: [\n")),
            &["line "],
        ),
        (
            "version.yaml",
            text(&object("x", "  defaultAction: allow\n").replace("v1alpha1", "v9")),
            &["dapr.io/v9", "dapr.io/v1alpha1"],
        ),
    ];
    for (name, content, words) in rows {
        rig.refused(name, &content, words).await;
    }
}

/// Row K204: what is too much, of text, of rules, of references, of depth; the peak of memory is bounded.
#[tokio::test]
async fn oversized_policies_leave_the_last_good_one_and_memory_bounded() {
    let rig = Rig::start().await;
    rig.is_in_force().await;
    let before = rig.peak();
    let wide = entry(&format!("    operations:\n{}", rules(100_000)));
    let long = "x".repeat(10 << 20);
    let nested = format!("{HEAD}deep\nspec: {}\n", "[".repeat(200_000));
    let noted =
        format!("{HEAD}large\n  annotations: {{note: {long}}}\nspec: {{defaultAction: permit}}\n");
    let over = format!(
        "{}# {}",
        object("x", "  defaultAction: allow\n"),
        "x".repeat(17 << 20)
    );
    let rows: [(&str, String, &[&str]); 6] = [
        ("many-rules.yaml", object("x", &wide), &["may have"]),
        (
            "over-the-list.yaml",
            object("x", &entry(&format!("    operations:\n{}", rules(129)))),
            &["/spec/policies/0/operations", "128"],
        ),
        ("large.yaml", noted, &["may have"]),
        ("deep.yaml", nested, &["line "]),
        ("bomb.yaml", bomb(), &[]),
        ("over-the-limit.yaml", over, &["16 MiB"]),
    ];
    for (name, content, words) in rows {
        rig.refused(name, content.as_bytes(), words).await;
        let grown = rig.peak() - before;
        eprintln!("{name}: {} KiB at most beyond {before} KiB", grown);
        assert!(grown < MEMORY, "{name} took {grown} KiB");
    }
}

/// 100,000 rules in objects of the allowed size take effect, and can be taken away again.
#[tokio::test]
async fn a_hundred_thousand_rules_take_effect() {
    let rig = Rig::start().await;
    let before = rig.peak();
    let one = |entry: usize| {
        let name = if entry == 0 {
            "web".to_owned()
        } else {
            format!("other-{entry}")
        };
        format!(
            "  - appId: {name}\n    namespace: default\n    operations:\n{}",
            rules(128)
        )
    };
    for number in 0..7 {
        let entries: String = (0..112).map(one).collect();
        let text = object(
            &format!("large{number}"),
            &format!("  policies:\n{entries}"),
        );
        rig.put(&format!("large{number}.yaml"), text.as_bytes());
    }
    let look = || async { (rig.status("r127").await == 200).then_some(()) };
    let read = wait::until("100,352 rules in force", MANY, look).await;
    read.inspect_err(|_| rig.shop.program.show()).unwrap();
    rig.is_in_force().await;
    let grown = rig.peak() - before;
    eprintln!("100,352 rules: {grown} KiB at most beyond {before} KiB");
    assert!(grown < MEMORY, "{grown} KiB");
    for number in 0..7 {
        fs::remove_file(rig.folder.join(format!("large{number}.yaml"))).unwrap();
    }
    let look = || async { (rig.status("r127").await == 403).then_some(()) };
    wait::until("the rules are gone", MANY, look).await.unwrap();
    rig.is_in_force().await;
}
