//! Every file under `tests/sql` (its README tells the format), plain at three parallelisms and with a restore in the middle.
//!
//! `WEIR_SQL_CASE=joins/left cargo test --test sql` runs the cases whose name holds this text.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use weir_tests::sql::case::{Case, folder, read_all};
use weir_tests::sql::run::{Mode, Runner, modes};

/// Cases that run at once: half of the time a run waits.
const AT_ONCE: usize = 3;

#[test]
fn each_case_gives_its_rows_in_each_mode() {
    let started = Instant::now();
    let wanted = std::env::var("WEIR_SQL_CASE").unwrap_or_default();
    let mut cases = read_all(&folder()).unwrap();
    cases.retain(|case| case.name.contains(&wanted));
    assert!(!cases.is_empty(), "no case has '{wanted}' in its name");
    let runs: Vec<(&Case, Mode)> = cases
        .iter()
        .flat_map(|case| modes(case).into_iter().map(move |mode| (case, mode)))
        .collect();
    let runner = Runner::start().unwrap();
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((case, mode)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = runner.check(case, *mode) {
                        eprint!("{failure}");
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    eprintln!(
        "{} cases, {} runs in {:.1?}",
        cases.len(),
        runs.len(),
        started.elapsed()
    );
    assert!(
        !runner.has_panicked(),
        "a thread of the cluster has panicked"
    );
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} runs failed:\n{}",
        failures.len(),
        runs.len(),
        failures.concat()
    );
}
