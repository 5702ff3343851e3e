//! Rows of the sheet that this suite cannot run, each with what is missing.

/// Number of the row, and why it is not run.
pub(crate) const DEFERRED: &[(usize, &str)] = &[
    (50, "is R-57 of conformance_resiliency"),
    (51, "is R-08 of conformance_resiliency"),
    (52, "is R-59 of conformance_resiliency"),
    (92, "is R-62 of conformance_resiliency"),
    (93, "is R-63 and R-64 of conformance_resiliency"),
    (94, "is R-34 of conformance_resiliency"),
    (140, "needs Consul"),
    (142, "needs a cluster"),
];
