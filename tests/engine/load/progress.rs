//! Progress is reported in order, adds up, and cancels.

use std::ops::ControlFlow;

use wgpt::{Error, LoadPhase, LoadProgress, MemoryGroup};

use crate::support::files;

#[test]
fn phases_come_in_order_and_reach_their_totals() {
    let builder = files::engine(files::long_matrices_dir());
    let mut reports: Vec<LoadProgress> = Vec::new();
    let engine = builder
        .build_with(&mut |progress| {
            reports.push(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    let mut seen: Vec<LoadPhase> = Vec::new();
    for report in &reports {
        if !seen.contains(&report.phase) {
            seen.push(report.phase);
        }
    }
    assert_eq!(seen, LoadPhase::ALL, "phases begin in order");
    for phase in LoadPhase::ALL {
        let of_phase: Vec<_> = reports.iter().filter(|r| r.phase == phase).collect();
        let last = of_phase.last().unwrap();
        assert!(of_phase.iter().all(|r| r.total == last.total), "{phase:?} changes its total");
        assert!(of_phase.windows(2).all(|w| w[0].done <= w[1].done), "{phase:?} goes back");
        assert!(last.total > 0, "{phase:?}");
        assert_eq!(last.done, last.total, "{phase:?} does not end at its total");
    }
    // Reading and uploading alternate; every other phase waits for the phases before it.
    let rank = |phase| match phase {
        LoadPhase::Plan => 0,
        LoadPhase::Read | LoadPhase::Upload => 1,
        LoadPhase::Compile => 2,
        _ => 3,
    };
    assert!(reports.is_sorted_by_key(|r| rank(r.phase)));
    let of_phase = |phase| reports.iter().filter(move |r| r.phase == phase);
    assert_eq!(of_phase(LoadPhase::Read).next().unwrap().total, engine.files().checkpoint().total_bytes());
    let weights = engine.memory_plan().group_bytes(MemoryGroup::Weights);
    assert_eq!(of_phase(LoadPhase::Upload).next().unwrap().total, weights);
    // Long matrices report their progress in between: 50 MB in steps of at most 4 MiB.
    for phase in [LoadPhase::Read, LoadPhase::Upload] {
        let done: Vec<u64> = of_phase(phase).map(|r| r.done).collect();
        assert!(done.windows(2).map(|w| w[1] - w[0]).max().unwrap() <= 4 << 20, "{phase:?}");
    }
}

#[test]
fn a_break_cancels_at_any_report() {
    let builder = files::engine(&files::golden("gpt2-tiny"));
    let mut n_reports = 0;
    let count = |_| {
        n_reports += 1;
        ControlFlow::Continue(())
    };
    builder.build_with(&mut { count }).unwrap();
    assert!(n_reports > 4);
    for stop_at in [1, 2, n_reports / 2, n_reports - 1, n_reports] {
        let mut n = 0;
        let result = builder.build_with(&mut |_| {
            n += 1;
            if n == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(result, Err(Error::Cancelled)), "report {stop_at} of {n_reports}");
        assert_eq!(n, stop_at, "the callback is not called again");
    }
    // A cancelled load does not prevent the next one.
    builder.build().unwrap();
}
