//! Tests of curves and of their diagnosis on synthetic runs.

use super::*;

fn point(step: u64, train: Option<f64>, validation: Option<f64>) -> CurvePoint {
    CurvePoint { step, train, validation, tokens: None }
}

#[test]
fn points_are_sorted_and_merged() {
    let curve = Curve::new([
        point(30, Some(1.0), None),
        point(10, Some(3.0), None),
        point(30, None, Some(1.5)),
        point(20, None, Some(2.5)),
    ]);
    let expected = [point(10, Some(3.0), None), point(20, None, Some(2.5)), point(30, Some(1.0), Some(1.5))];
    assert_eq!(curve.unwrap().points(), expected);
}

#[test]
fn two_losses_of_one_kind_at_one_step_are_refused() {
    let error = Curve::new([point(7, Some(1.0), None), point(7, Some(2.0), Some(2.0))]).unwrap_err();
    assert!(error.to_string().starts_with("step 7 has two training losses, 1 and 2: "), "{error}");
    let error = Curve::new([point(7, None, Some(1.0)), point(7, None, Some(1.0))]).unwrap_err();
    assert!(error.to_string().contains("two validation losses"), "{error}");
}

#[test]
fn token_counts_follow_from_the_last_known_count() {
    let mut curve = Curve::new([
        CurvePoint { step: 0, tokens: Some(0), ..point(0, Some(9.0), None) },
        CurvePoint { step: 10, tokens: Some(4000), ..point(10, Some(5.0), None) },
        point(25, Some(4.0), None),
    ])
    .unwrap();
    assert_eq!(curve.tokens_per_step, Some(400.0));
    assert_eq!(curve.tokens(&curve.points()[2]), Some(10_000));
    assert_eq!(curve.budget(), None);
    curve.n_parameters = Some(1000);
    let budget = curve.budget().unwrap();
    assert_eq!((budget.tokens, budget.tokens_per_parameter), (10_000, 10.0));
    assert_eq!(Curve::new([point(5, Some(1.0), None)]).unwrap().budget(), None);
}

#[test]
fn non_finite_losses_survive_json() {
    let points = [
        point(1, Some(f64::NAN), Some(2.0)),
        point(2, Some(f64::INFINITY), None),
        point(3, Some(f64::NEG_INFINITY), Some(0.5)),
    ];
    let text = serde_json::to_string(&points).unwrap();
    assert!(text.starts_with(r#"[{"step":1,"train":"NaN","validation":2.0}"#), "{text}");
    let back: Vec<CurvePoint> = serde_json::from_str(&text).unwrap();
    assert!(back[0].train.unwrap().is_nan() && back[0].validation == Some(2.0));
    assert_eq!(back[1..], points[1..]);
}

/// Independent errors of standard deviation 1: sums of twelve numbers from a linear
/// congruential generator (Knuth's MMIX).
struct Errors(u64);

impl Errors {
    fn next(&mut self) -> f64 {
        let uniform = |_| {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..12).map(uniform).sum::<f64>() - 6.0
    }
}

/// Returns a run of `n` points, 100 steps apart. Both losses are functions of the
/// completed fraction of the run.
fn run(n: u64, train: impl Fn(f64) -> f64, validation: impl Fn(f64) -> f64) -> Curve {
    let points = (1..=n).map(|i| {
        let part = i as f64 / n as f64;
        point(i * 100, Some(train(part)), Some(validation(part)))
    });
    Curve::new(points).unwrap()
}

/// Returns the curve with errors added to both losses.
fn noisy(curve: &Curve, deviation: f64, seed: u64) -> Curve {
    let mut errors = Errors(seed);
    let mut off = |loss: Option<f64>| loss.map(|loss| loss + deviation * errors.next());
    let points = curve.points().iter().map(|p| point(p.step, off(p.train), off(p.validation)));
    Curve::new(points.collect::<Vec<_>>()).unwrap()
}

/// A loss that falls and levels off.
fn level(part: f64) -> f64 {
    2.5 + 3.0 * (-part / 0.08).exp()
}

/// A loss that falls as a power of the steps until the end.
fn falling(part: f64) -> f64 {
    1.5 + 1.0 * part.powf(-0.3)
}

/// A loss that falls during the first four tenths of the run and then rises by half a
/// nat.
fn overfit(part: f64) -> f64 {
    level(part) + (part - 0.4).max(0.0) * 0.8
}

const SIZES: [u64; 7] = [4, 5, 7, 8, 12, 40, 300];

#[test]
fn a_run_that_levels_off_is_healthy() {
    for n in SIZES {
        let found = run(n, level, |part| level(part) + 0.1).diagnose();
        let healthy = Diagnosis::Healthy { series: Series::Validation };
        assert_eq!(found, Findings { diagnosis: healthy, spikes: Vec::new() }, "{n}");
    }
}

#[test]
fn a_run_that_falls_to_its_end_is_still_falling() {
    for n in SIZES {
        let found = run(n, |part| falling(part) - 0.1, falling).diagnose();
        let Diagnosis::StillFalling { series: Series::Validation, fall } = found.diagnosis else {
            panic!("{n}: {found:?}")
        };
        // The curve itself falls by 0.09 over the last quarter, and by 0.12 over the
        // quarter before.
        assert!((0.08..0.14).contains(&fall), "{n}: {fall}");
    }
}

#[test]
fn overfitting_begins_at_the_lowest_validation_loss() {
    for n in SIZES {
        let curve = run(n, falling, overfit);
        let lowest =
            curve.points().iter().min_by(|a, b| a.validation.unwrap().total_cmp(&b.validation.unwrap()));
        let Diagnosis::Overfitting { from_step, lowest: loss, rise } = curve.diagnose().diagnosis else {
            panic!("{n}: {:?}", curve.diagnose())
        };
        // The running median of three may shift the step by one point.
        assert!(from_step.abs_diff(lowest.unwrap().step) <= 100, "{n}: {from_step}");
        assert!(
            (loss - lowest.unwrap().validation.unwrap()).abs() < 0.1 && (0.2..0.5).contains(&rise),
            "{n}"
        );
    }
}

#[test]
fn overfitting_is_seen_through_noise() {
    for (n, deviation) in [(8, 0.01), (20, 0.02), (50, 0.03), (300, 0.05)] {
        for seed in 0..100 {
            let found = noisy(&run(n, falling, overfit), deviation, seed).diagnose();
            let Diagnosis::Overfitting { from_step, .. } = found.diagnosis else {
                panic!("{n} {seed}: {found:?}")
            };
            let part = from_step as f64 / (n * 100) as f64;
            assert!((0.2..0.7).contains(&part), "{n} {seed}: from {part}");
        }
    }
}

/// With noise of one percent of the loss, some curves of few points look like a rise.
/// From eight points on the noise is known, and at most 12 of 400 curves are misjudged.
#[test]
fn noise_is_neither_a_rise_nor_a_spike_nor_a_fall() {
    for (n, deviation, wrong_max) in [
        (4, 0.0025, 0),
        (6, 0.005, 3),
        (8, 0.0025, 0),
        (8, 0.025, 12),
        (20, 0.025, 8),
        (50, 0.075, 8),
        (300, 0.1, 4),
    ] {
        let curve = run(n, level, level);
        let wrong = (0..400).filter(|&seed| {
            let found = noisy(&curve, deviation, seed).diagnose();
            !found.spikes.is_empty() || found.diagnosis != Diagnosis::Healthy { series: Series::Validation }
        });
        let wrong = wrong.count();
        assert!(wrong <= wrong_max, "{n} points, deviation {deviation}: {wrong} of 400");
    }
}

#[test]
fn validation_that_rises_with_training_is_not_overfitting() {
    let found = run(12, overfit, overfit).diagnose().diagnosis;
    let Diagnosis::Rising { series: Series::Validation, .. } = found else { panic!("{found:?}") };
    let alone = run(12, level, overfit).points().to_vec();
    let alone = Curve::new(alone.into_iter().map(|p| CurvePoint { train: None, ..p })).unwrap();
    let Diagnosis::Rising { series: Series::Validation, .. } = alone.diagnose().diagnosis else {
        panic!("{alone:?}")
    };
}

#[test]
fn the_training_loss_is_judged_without_a_validation_loss() {
    let without = |curve: Curve| {
        Curve::new(curve.points().iter().map(|p| CurvePoint { validation: None, ..*p }))
            .unwrap()
            .diagnose()
            .diagnosis
    };
    assert_eq!(without(run(12, level, level)), Diagnosis::Healthy { series: Series::Train });
    let found = without(run(12, falling, level));
    assert!(matches!(found, Diagnosis::StillFalling { series: Series::Train, .. }), "{found:?}");
    let found = without(run(12, overfit, level));
    assert!(
        matches!(found, Diagnosis::Rising { series: Series::Train, from_step: 400..=600, .. }),
        "{found:?}"
    );
}

#[test]
fn spikes_are_named_and_do_not_count_as_a_rise() {
    let mut points = run(30, falling, falling).points().to_vec();
    points[11].train = Some(4.0);
    points[12].train = Some(5.5);
    points[19].validation = Some(f64::NAN);
    points[24].validation = Some(3.5);
    let found = Curve::new(points).unwrap().diagnose();
    let spikes: Vec<_> = found.spikes.iter().map(|spike| (spike.series, spike.step)).collect();
    assert_eq!(spikes, [(Series::Train, 1300), (Series::Validation, 2000), (Series::Validation, 2500)]);
    assert_eq!((found.spikes[0].loss, found.spikes[2].loss), (5.5, 3.5));
    assert!((2.4..3.0).contains(&found.spikes[0].level) && found.spikes[1].loss.is_nan());
    assert!(matches!(found.diagnosis, Diagnosis::StillFalling { .. }), "{found:?}");
    // With few points, a spike exceeds both sides by a fifth.
    let few = [3.5, 3.1, 4.2, 2.9, 2.8].into_iter().enumerate();
    let few = Curve::new(few.map(|(i, loss)| point(i as u64, None, Some(loss)))).unwrap().diagnose();
    assert_eq!(few.spikes.iter().map(|spike| spike.step).collect::<Vec<_>>(), [2]);
}

#[test]
fn losses_that_end_in_nan_or_infinity_have_diverged() {
    let mut points = run(10, falling, falling).points().to_vec();
    points[7].train = Some(f64::INFINITY);
    points[8].train = Some(f64::NAN);
    points[9].train = Some(f64::NAN);
    points[9].validation = Some(f64::NAN);
    let found = Curve::new(points.clone()).unwrap().diagnose();
    assert_eq!(found.diagnosis, Diagnosis::Diverged { series: Series::Train, step: 800 });
    assert!(found.spikes.is_empty());
    // Divergence is also found with too few points for any other diagnosis.
    let two = Curve::new(points[8..].iter().map(|p| CurvePoint { train: None, ..*p })).unwrap().diagnose();
    assert_eq!(two.diagnosis, Diagnosis::Diverged { series: Series::Validation, step: 1000 });
}

#[test]
fn too_few_points_give_no_diagnosis() {
    for n in 1..4 {
        let found = run(n, falling, overfit).diagnose();
        let expected = Diagnosis::TooFewPoints { n_points: n as usize, needed: 4 };
        assert_eq!(found, Findings { diagnosis: expected, spikes: Vec::new() });
    }
    assert_eq!(
        Curve::new([]).unwrap().diagnose().diagnosis,
        Diagnosis::TooFewPoints { n_points: 0, needed: 4 }
    );
}

#[test]
fn unsorted_points_and_unequal_steps_change_nothing() {
    let curve = run(12, falling, overfit);
    let mut points = curve.points().to_vec();
    points.reverse();
    points.swap(2, 9);
    assert_eq!(Curve::new(points).unwrap().diagnose(), curve.diagnose());
    // Checkpoints at doubling steps: 100 to 25600.
    let doubling = (0..9).map(|i| {
        let loss = 2.0 + 4.0 / (1.0 + f64::from(i)) + (i - 5).max(0) as f64 * 0.3;
        point(100 << i, Some(6.0 - 0.5 * f64::from(i)), Some(loss))
    });
    let found = Curve::new(doubling).unwrap().diagnose().diagnosis;
    assert!(matches!(found, Diagnosis::Overfitting { from_step: 1600..=6400, .. }), "{found:?}");
}

#[test]
fn the_loss_of_the_demo_model_is_still_falling() {
    let log = parse_log("training_log.json", include_str!("../../../../weights/training_log.json")).unwrap();
    assert_eq!((log.points().len(), log.tokens_per_step), (18, Some(4096.0)));
    let found = log.diagnose();
    assert!(
        matches!(found.diagnosis, Diagnosis::StillFalling { series: Series::Validation, .. }),
        "{found:?}"
    );
    assert!(found.spikes.is_empty(), "{found:?}");
}

#[test]
fn findings_are_sentences_and_survive_json() {
    let sentences = [
        (Diagnosis::TooFewPoints { n_points: 2, needed: 4 }, "too few points: 2, but a verdict needs 4"),
        (
            Diagnosis::Diverged { series: Series::Train, step: 7 },
            "diverged: the training loss is not finite from step 7 on",
        ),
        (
            Diagnosis::Overfitting { from_step: 500, lowest: 2.0, rise: 0.25 },
            "overfitting from step 500 on: ",
        ),
        (
            Diagnosis::Rising { series: Series::Train, from_step: 5, lowest: 2.0, rise: 0.25 },
            "rising from step 5 on: the training loss rose by 0.250 from 2.000",
        ),
        (
            Diagnosis::StillFalling { series: Series::Validation, fall: 0.1 },
            "still falling: the validation loss",
        ),
        (Diagnosis::Healthy { series: Series::Validation }, "healthy: "),
        (Diagnosis::Healthy { series: Series::Train }, "healthy: the training loss"),
    ];
    for (diagnosis, start) in sentences {
        assert!(diagnosis.to_string().starts_with(start), "{diagnosis}");
        let spikes = vec![Spike { series: Series::Train, step: 3, loss: f64::INFINITY, level: 2.0 }];
        assert_eq!(spikes[0].to_string(), "spike at step 3: training loss inf, 2.000 around it");
        let findings = Findings { diagnosis, spikes };
        let text = serde_json::to_string(&findings).unwrap();
        assert_eq!(serde_json::from_str::<Findings>(&text).unwrap(), findings, "{text}");
    }
    let text =
        serde_json::to_string(&Diagnosis::Overfitting { from_step: 5, lowest: 2.0, rise: 0.5 }).unwrap();
    assert_eq!(text, r#"{"kind":"overfitting","from_step":5,"lowest":2.0,"rise":0.5}"#);
}
