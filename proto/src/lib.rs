//! The wire contract, as Rust.
//!
//! Owns the generated modules and nothing else: the text lies in `dapr/proto/` and, for what is this project's
//! own, in `accesscontrol/`; `tests/generated.rs` turns it into `src/gen/` and fails when the two disagree
//! (`UPDATE=1 cargo test -p ironside-proto` writes). Only what service invocation, Sentry, the operator and the app
//! callback need is here; every other RPC of the public service is answered by name, without its messages.

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    reason = "generated code follows its generator's taste"
)]
/// The packages under `dapr.proto`.
pub mod dapr {
    /// `dapr.proto`
    pub mod proto {
        /// `dapr.proto.common`
        pub mod common {
            /// Messages shared by the public and the internal API.
            pub mod v1 {
                include!("gen/dapr.proto.common.v1.rs");
            }
        }
        /// `dapr.proto.runtime`
        pub mod runtime {
            /// The public API and the app callback.
            pub mod v1 {
                include!("gen/dapr.proto.runtime.v1.rs");
            }
        }
        /// `dapr.proto.internals`
        pub mod internals {
            /// The protocol between sidecars.
            pub mod v1 {
                include!("gen/dapr.proto.internals.v1.rs");
            }
        }
        /// `dapr.proto.sentry`
        pub mod sentry {
            /// The certificate authority.
            pub mod v1 {
                include!("gen/dapr.proto.sentry.v1.rs");
            }
        }
        /// `dapr.proto.operator`
        pub mod operator {
            /// Resources of a cluster, for sidecars.
            pub mod v1 {
                include!("gen/dapr.proto.operator.v1.rs");
            }
        }
    }
}

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    reason = "generated code follows its generator's taste"
)]
/// The packages under `google`: generated here, so that `Any` holds its bytes as a shared slice.
pub mod google {
    /// Well-known types.
    pub mod protobuf {
        include!("gen/google.protobuf.rs");
    }
}

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    reason = "generated code follows its generator's taste"
)]
/// The package `accesscontrol`, this project's own: how policy reaches sidecars.
pub mod accesscontrol {
    /// Objects of access control as a stream.
    pub mod v1 {
        include!("gen/accesscontrol.v1.rs");
    }
}

pub use accesscontrol::v1 as discovery;
pub use dapr::proto::common::v1 as common;
pub use dapr::proto::internals::v1 as internals;
pub use dapr::proto::operator::v1 as operator;
pub use dapr::proto::runtime::v1 as runtime;
pub use dapr::proto::sentry::v1 as sentry;

/// Encoded `google.protobuf.FileDescriptorSet` of the packages of the reference, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
