//! Progress is reported in order, adds up, and cancels.

use std::ops::ControlFlow;

use wgpt::Error;
use wgpt::model::{LoadPhase, LoadProgress};

use crate::files;
use crate::heap::alone;

#[test]
fn phases_come_in_order_and_reach_their_totals() {
    let _alone = alone();
    let builder = files::engine(files::long_matrices_dir());
    let mut reports: Vec<LoadProgress> = Vec::new();
    let engine = builder
        .build_with(&mut |progress| {
            reports.push(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    let phases = [LoadPhase::Weights, LoadPhase::Compile, LoadPhase::WarmUp];
    let order: Vec<usize> =
        reports.iter().map(|r| phases.iter().position(|&phase| phase == r.phase).unwrap()).collect();
    assert!(order.is_sorted(), "{order:?}");
    for phase in phases {
        let of_phase: Vec<_> = reports.iter().filter(|r| r.phase == phase).collect();
        let last = of_phase.last().unwrap_or_else(|| panic!("{phase:?} was never reported"));
        assert!(of_phase.iter().all(|r| r.total == last.total), "{phase:?} changes its total");
        assert!(of_phase.windows(2).all(|w| w[0].done <= w[1].done), "{phase:?} goes back");
        assert!(last.total > 0, "{phase:?}");
        assert_eq!(last.done, last.total, "{phase:?} does not end at its total");
    }
    let weights: Vec<_> = reports.iter().filter(|r| r.phase == LoadPhase::Weights).collect();
    assert_eq!(weights[0].total, engine.files().checkpoint().total_bytes());
    // Long matrices report within: 50 MB in steps of at most 4 MiB.
    let steps = weights.windows(2).map(|w| w[1].done - w[0].done);
    assert!(steps.max().unwrap() <= 4 << 20);
}

#[test]
fn a_break_cancels_wherever_it_comes() {
    let _alone = alone();
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
        assert_eq!(n, stop_at, "the callback is not asked again");
    }
    // Nothing of a cancelled load stands in the way of the next.
    builder.build().unwrap();
}
