//! The first process of every pod's sandbox: it holds the namespaces of the pod open and does nothing else.
//!
//! Linked statically and alone in its image. The container runtime ends it with SIGKILL, so it needs no
//! handler of signals.

fn main() {
    loop {
        std::thread::park();
    }
}
