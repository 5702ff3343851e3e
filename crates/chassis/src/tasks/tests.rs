//! Owners, names, panics and deadlines of tasks, on both kinds of runtime.

use super::*;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_cancelled_task_ends_and_is_waited_for() {
    let tasks = Tasks::new();
    let token = tasks.token();
    tasks.spawn("waiter", async move { token.cancelled().await });
    assert_eq!(tasks.running(), ["waiter"]);
    assert!(tasks.shutdown(SOON).await.is_empty());
    assert!(tasks.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tasks_that_do_not_end_are_named_once() {
    let tasks = Tasks::new();
    tasks.spawn("stuck", std::future::pending());
    tasks.spawn("stuck", std::future::pending());
    tasks.scope().spawn("deaf", std::future::pending());
    tasks.spawn("quick", async {});
    let left = tasks.shutdown(Duration::from_secs(5)).await;
    assert_eq!(left, ["deaf", "stuck"]);
}

#[tokio::test]
async fn a_panic_cancels_the_tree_and_is_kept() {
    let tasks = Tasks::new();
    let sibling = tasks.scope();
    let token = sibling.token();
    sibling.spawn("sibling", async move { token.cancelled().await });
    tasks
        .scope()
        .spawn("faulty", async { panic!("no more {}", "tea") });
    let root = tasks.token();
    tokio::time::timeout(SOON, root.cancelled()).await.unwrap();
    assert!(tasks.wait(SOON).await.is_empty());
    let panic = tasks.panic().unwrap();
    assert_eq!(panic.task, "faulty");
    assert_eq!(&*panic.message, "no more tea");
}

#[tokio::test]
async fn a_scope_ends_alone() {
    let tasks = Tasks::new();
    let scope = tasks.scope();
    for owner in [&tasks, &scope] {
        let token = owner.token();
        owner.spawn("waiter", async move { token.cancelled().await });
    }
    assert!(scope.shutdown(SOON).await.is_empty());
    assert_eq!(tasks.running(), ["waiter"]);
    assert!(!tasks.token().is_cancelled());
    assert!(tasks.shutdown(SOON).await.is_empty());
}

#[test]
fn one_owner_serves_several_single_threaded_runtimes() {
    let tasks = Tasks::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let worker = tasks.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let token = worker.token();
            worker.spawn("data", async move { token.cancelled().await });
            ready.send(()).unwrap();
            assert!(worker.wait(SOON).await.is_empty());
        });
    });
    is_ready.recv_timeout(SOON).unwrap();
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(control.block_on(tasks.shutdown(SOON)).is_empty());
    thread.join().unwrap();
}

#[tokio::test]
async fn a_group_counts_and_executes() {
    use hyper::rt::Executor as _;
    let tasks = Tasks::new();
    let group = tasks.group("http2");
    let token = tasks.token();
    group.execute(async move { token.cancelled().await });
    assert_eq!(group.len(), 1);
    assert_eq!(tasks.group("http2").len(), 1);
    group.owner().cancel();
    assert!(tasks.wait(SOON).await.is_empty());
    assert!(group.is_empty());
}
