//! Means with standard errors, as lm-evaluation-harness computes them.

use serde::{Deserialize, Serialize};

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Standard error of the mean; `None` for a single value.
    pub stderr: Option<f64>,
}

/// Returns the mean of `values`, or `None` without values. The standard error is the
/// sample's standard deviation (divisor n - 1) divided by the square root of n, as in
/// lm-eval's `mean_stderr`.
pub(super) fn mean(values: &[f64]) -> Option<Estimate> {
    let n = values.len() as f64;
    let value = (!values.is_empty()).then(|| values.iter().sum::<f64>() / n)?;
    let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    let stderr = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt() / n.sqrt());
    Some(Estimate { value, stderr })
}

/// Returns the mean over groups, weighted by their sizes, with a standard error from the
/// pooled variance: lm-eval's `aggregate_subtask_metrics` and `pooled_sample_stderr`.
/// Returns `None` if there are no values.
pub(super) fn pooled(groups: &[(usize, Estimate)]) -> Option<Estimate> {
    let n: usize = groups.iter().map(|(size, _)| size).sum();
    if n == 0 {
        return None;
    }
    let value = groups.iter().map(|(size, group)| group.value * *size as f64).sum::<f64>() / n as f64;
    // A group of one value adds no deviation.
    let squares: f64 = groups
        .iter()
        .filter_map(|(size, group)| {
            group.stderr.map(|stderr| (*size as f64 - 1.0) * stderr.powi(2) * *size as f64)
        })
        .sum();
    let free = n - groups.len();
    let stderr = (free > 0).then(|| (squares / free as f64 / n as f64).sqrt());
    Some(Estimate { value, stderr })
}

/// Returns the perplexity of mean log-probabilities. Its standard error is the standard
/// error of the mean times the perplexity (lm-eval bootstraps it).
pub(super) fn perplexity(logprobs: &[f64]) -> Option<Estimate> {
    let mean = mean(logprobs)?;
    let value = (-mean.value).exp();
    Some(Estimate { value, stderr: mean.stderr.map(|stderr| stderr * value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-12), "{found:?}, not {expected}");
    }

    #[test]
    fn means_have_the_error_of_the_sample() {
        // 3 of 4 are right: deviations 1/4 and 3/4, sum of squares 0.75, divided by 3 and
        // by 4: 1/16.
        let estimate = mean(&[1.0, 1.0, 0.0, 1.0]).unwrap();
        assert_eq!(estimate.value, 0.75);
        close(estimate.stderr, 0.25);
        assert_eq!(mean(&[1.0]), Some(Estimate { value: 1.0, stderr: None }));
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn groups_are_weighted_by_size() {
        let groups = [(4, mean(&[1.0, 1.0, 0.0, 1.0]).unwrap()), (2, mean(&[0.0, 1.0]).unwrap())];
        let all = pooled(&groups).unwrap();
        close(Some(all.value), 4.0 / 6.0);
        // Sums of squares 0.75 and 0.5, divided by 6 - 2 and by 6.
        close(all.stderr, (1.25_f64 / 4.0 / 6.0).sqrt());
        let one = (1, mean(&[1.0]).unwrap());
        assert_eq!(pooled(&[one, one]), Some(Estimate { value: 1.0, stderr: None }));
        close(pooled(&[groups[0], one]).unwrap().stderr, (0.75_f64 / 3.0 / 5.0).sqrt());
        assert_eq!(pooled(&[]), None);
    }

    #[test]
    fn the_error_of_a_perplexity_scales_with_it() {
        let estimate = perplexity(&[-1.0, -3.0]).unwrap();
        close(Some(estimate.value), 2_f64.exp());
        close(estimate.stderr, 2_f64.exp());
    }
}
