//! `src/gen/` equals what the `.proto` text says; `UPDATE=1` writes it.

#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;

const FILES: [&str; 7] = [
    "dapr/proto/common/v1/common.proto",
    "dapr/proto/internals/v1/apiversion.proto",
    "dapr/proto/internals/v1/status.proto",
    "dapr/proto/internals/v1/service_invocation.proto",
    "dapr/proto/runtime/v1/dapr.proto",
    "dapr/proto/runtime/v1/appcallback.proto",
    "dapr/proto/sentry/v1/sentry.proto",
];

/// What no server reflects: nobody but sidecars and operators ask for it.
const UNREFLECTED: [&str; 3] = [
    "accesscontrol/v1/accesscontrol.proto",
    "accesscontrol/v1/relay.proto",
    "dapr/proto/operator/v1/operator.proto",
];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = root.join("src/gen");
    let fresh = generate(root);
    if std::env::vars().any(|(key, value)| key == "UPDATE" && value == "1") {
        for (name, bytes) in &fresh {
            fs::write(checked_in.join(name), bytes).unwrap();
        }
        return;
    }
    for (name, bytes) in &fresh {
        let found = fs::read(checked_in.join(name)).unwrap_or_default();
        assert!(
            found == *bytes,
            "src/gen/{name} is stale: run UPDATE=1 cargo test -p ironside-proto"
        );
    }
    let names = fs::read_dir(&checked_in).unwrap().count();
    assert_eq!(
        names,
        fresh.len(),
        "src/gen holds files that no .proto makes"
    );
}

/// Compiles the contract and returns (file name, content) sorted by name.
fn generate(root: &Path) -> Vec<(String, Vec<u8>)> {
    let descriptors = protox::compile(FILES, [root]).unwrap();
    let all = protox::compile(FILES.into_iter().chain(UNREFLECTED), [root]).unwrap();
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("proto-gen");
    drop(fs::remove_dir_all(&out));
    fs::create_dir_all(&out).unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .compile_well_known_types(true)
        .out_dir(&out)
        .compile_fds(all)
        .unwrap();
    let mut files: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.push(("descriptors.bin".to_owned(), descriptors.encode_to_vec()));
    files.sort();
    files
}
