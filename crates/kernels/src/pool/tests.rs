//! Every task once, panics that arrive, nested and concurrent callers.

use super::ThreadPool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn runs_every_task_once(pool: &ThreadPool, tasks: usize) {
    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(tasks, &|i| {
        counts[i].fetch_add(1, Ordering::Relaxed);
    });
    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{tasks} tasks on {pool:?}");
}

#[test]
fn every_task_runs_once_for_any_number_of_threads_and_tasks() {
    for threads in [0, 1, 2, 3, 8] {
        let pool = ThreadPool::new(threads);
        assert!(pool.threads() <= threads.max(1));
        for tasks in [0, 1, 2, 3, 7, 100] {
            for _ in 0..50 {
                runs_every_task_once(&pool, tasks);
            }
        }
    }
}

#[test]
fn workers_that_fell_asleep_wake_up() {
    let pool = ThreadPool::new(3);
    for _ in 0..3 {
        runs_every_task_once(&pool, 20);
        std::thread::sleep(Duration::from_millis(60));
    }
}

#[test]
fn a_task_on_another_thread_really_runs_there() {
    let pool = ThreadPool::new(2);
    let started = AtomicUsize::new(0);
    // Each task waits for the other, so one thread alone would never finish.
    pool.run(2, &|_| {
        started.fetch_add(1, Ordering::SeqCst);
        while started.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = ThreadPool::new(3);
    for bad in [0, 5, 19] {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(20, &|i| assert!(i != bad, "task {i} is bad"));
        }));
        let payload = result.expect_err("the panic must arrive");
        let message = payload.downcast_ref::<String>().expect("a formatted message");
        assert_eq!(*message, format!("task {bad} is bad"));
        runs_every_task_once(&pool, 20);
    }
}

#[test]
fn a_nested_run_works_on_its_own_thread() {
    for threads in [1, 3] {
        let pool = ThreadPool::new(threads);
        let calls = AtomicUsize::new(0);
        pool.run(4, &|_| {
            pool.run(5, &|_| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(calls.load(Ordering::Relaxed), 20);
    }
}

#[test]
fn several_threads_may_share_a_pool() {
    let pool = ThreadPool::new(2);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..200).for_each(|_| runs_every_task_once(&pool, 9)));
        }
    });
}
