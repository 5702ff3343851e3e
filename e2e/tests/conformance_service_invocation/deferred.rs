//! Rows of the sheet that this suite cannot run, each with what is missing.

/// Number of the row, and why it is not run.
pub(crate) const DEFERRED: &[(usize, &str)] = &[
    (50, "needs Resiliency policies"),
    (51, "needs Resiliency policies"),
    (52, "needs Resiliency policies"),
    (92, "needs Resiliency policies"),
    (93, "needs Resiliency policies"),
    (94, "needs Resiliency policies"),
    (140, "needs Consul"),
    (142, "needs a cluster"),
];
