//! Measures the cost of dispatches on this device when the model is loaded.

use std::time::Duration;

use super::cost::CostModel;
use super::split::{Segment, cost_of, load};
use super::unfinished::slowest;
use crate::error::Result;
use crate::gpu::{Dispatch, Gpu, Timestamps, Work};
use crate::kernels::{Matrix, Step};
use crate::model::dims::HEAD_SLICES_MAX;
use crate::model::forward::{Forward, work};
use crate::model::recordings::HeadRows;
use crate::model::{Model, PageLists};

/// Candidate row counts for the timed chunk, the largest first. The first one whose
/// dispatches are predicted to fit [`ALLOWANCE`] is used. 64 is a gemm tile; the smaller
/// ones are for software adapters.
const ROWS: [usize; 4] = [64, 32, 16, 8];

/// Maximum time for the timed dispatches of a chunk, one or two of each kind.
const ALLOWANCE: Duration = Duration::from_millis(40);

/// Number of cached positions for the timing of dispatches that depend on it. It is the
/// context of GPT-2, and enough to fit a slope.
const KV_LEN: usize = 1024;

/// A dispatch that takes longer than this is timed twice, and the shorter time counts.
/// Another program may have used the machine, and predictions that are too high divide
/// work needlessly.
const REPEAT_ABOVE: Duration = Duration::from_micros(500);

/// Maximum time of a dispatch of the head's matrix for one row, so that the dispatch fits
/// small frame budgets.
const HEAD_SLICE: Duration = Duration::from_millis(1);

impl Forward {
    /// Times dispatches of every kind in the passes of a chunk and of a decode row, one
    /// per submit: for one row, for several rows, and after many positions. Then cuts the
    /// head's matrix if it takes long. The buffers still hold the warm-up's data. Results
    /// do not matter, so dispatches may add to existing values.
    pub(in crate::model) fn calibrate(&mut self, model: &Model) -> Result<()> {
        let mut timestamps = Timestamps::new(&model.gpu, 1)?;
        let mut pages = PageLists::new(&model.config, self.dims.n_ctx);
        let result = self
            .time_points(model, &mut pages, timestamps.as_mut())
            .and_then(|rows| self.cut_head(model, &mut pages, rows, timestamps.as_mut()));
        pages.truncate(&mut self.cache, 0);
        result
    }

    /// Times the dispatches. Returns the number of rows in the steps of several rows.
    fn time_points(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        mut timestamps: Option<&mut Timestamps>,
    ) -> Result<usize> {
        let last = self.dims.n_ctx.min(KV_LEN);
        let step = self.enter_point(model, pages, 1, 0)?;
        let recorded = &self.recordings;
        let one = recorded.chunk(1, HeadRows::Last, false);
        let lists = [one[0], one[1], &recorded.prefill, &recorded.head_rows, &recorded.argmax];
        time(
            &mut self.cost,
            &model.gpu,
            &lists.map(|list| (list, work(step))),
            2,
            timestamps.as_deref_mut(),
        )?;

        let step = self.enter_point(model, pages, 1, last - 1)?;
        let decode = self.recordings.chunk(1, HeadRows::None, false)[0];
        time(&mut self.cost, &model.gpu, &[(decode, work(step))], 1, timestamps.as_deref_mut())?;

        let rows = self.several_rows();
        let step = self.enter_point(model, pages, rows, 0)?;
        let recorded = &self.recordings;
        let lists = [&recorded.prefill[..], &recorded.head_rows].map(|list| (list, work(step)));
        time(&mut self.cost, &model.gpu, &lists, 2, timestamps.as_deref_mut())?;

        let step = self.enter_point(model, pages, rows, last - rows)?;
        time(&mut self.cost, &model.gpu, &[(&self.recordings.prefill, work(step))], 1, timestamps)?;
        Ok(rows)
    }

    /// Returns the number of rows to time in addition to one row.
    fn several_rows(&self) -> usize {
        let most = self.dims.chunk.min(self.dims.logits_rows).min(self.dims.n_ctx);
        let fits = |&rows: &usize| {
            let step = Step { n_rows: rows as u32, kv_len: rows as u32, ..Step::default() };
            let recorded = &self.recordings;
            let lists = [&recorded.prefill[..], &recorded.head_rows];
            let counted = picked(&lists.map(|list| (list, work(step))), 2);
            let total: f64 =
                counted.iter().filter_map(|&(dispatch, work)| cost_of(&self.cost, dispatch, work)).sum();
            total <= ALLOWANCE.as_nanos() as f64
        };
        ROWS.into_iter().filter(|&rows| rows <= most).find(fits).unwrap_or(most.min(ROWS[ROWS.len() - 1]))
    }

    /// Uploads the step of `rows` rows at `position`.
    fn enter_point(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        rows: usize,
        position: usize,
    ) -> Result<Step> {
        let (encoder, [body, _]) = self.begin(model, pages, &vec![0; rows], position, true)?;
        self.submit(&model.gpu, encoder)?;
        pages.truncate(&mut self.cache, 0);
        Ok(body)
    }

    /// If the head takes long, records it again and times it. It is cut into dispatches
    /// that are short both for one row and for [`crate::model::Dims::logits_rows`] rows.
    fn cut_head(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        rows: usize,
        mut timestamps: Option<&mut Timestamps>,
    ) -> Result<()> {
        let step = |n_rows: usize| Step { n_rows: n_rows as u32, kv_len: n_rows as u32, ..Step::default() };
        let recorded = &self.recordings;
        let one = recorded.chunk(1, HeadRows::Last, model.options.deterministic)[1];
        let many = (&recorded.head_rows[..], work(step(self.dims.logits_rows)));
        let parts = |ns: f64, target: Duration| (ns / target.as_nanos() as f64).ceil() as usize;
        let cuts = parts(slowest(&self.cost, (one, work(step(1)))), HEAD_SLICE)
            .max(parts(slowest(&self.cost, many), model.options.max_submit / 2))
            .min(HEAD_SLICES_MAX);
        if cuts <= 1 {
            return Ok(());
        }
        let n = model.weights.head().n_rows;
        self.head_rows = Some(n.div_ceil(cuts).next_multiple_of(Matrix::CUT_ROWS));
        let heads = self.recording(model).heads()?;
        self.recordings.set_heads(heads);
        for rows in [1, rows] {
            let step = self.enter_point(model, pages, rows, 0)?;
            let recorded = &self.recordings;
            let one: Segment<'_> =
                (if rows == 1 { recorded.chunk(1, HeadRows::Last, false)[1] } else { &[] }, work(step));
            let lists = [one, (&recorded.head_rows[..], work(step))];
            time(&mut self.cost, &model.gpu, &lists, 1, timestamps.as_deref_mut())?;
        }
        Ok(())
    }
}

/// Times at most `n` dispatches of each kind, each in its own submit.
fn time(
    cost: &mut CostModel,
    gpu: &Gpu,
    segments: &[Segment<'_>],
    n: usize,
    mut timestamps: Option<&mut Timestamps>,
) -> Result<()> {
    for (dispatch, work) in picked(segments, n) {
        let mut run = || -> Result<f64> {
            let times = gpu.run_timed(&[(dispatch, work)], timestamps.as_deref_mut())?;
            Ok(times[0].duration_ns() as f64)
        };
        let mut ns = run()?;
        if ns > REPEAT_ABOVE.as_nanos() as f64 {
            ns = ns.min(run()?);
        }
        if let Some(load) = load(dispatch, work) {
            cost.sample(load, ns);
        }
    }
    Ok(())
}

/// Returns at most `n` dispatches of each kind, without dispatches whose grids are empty.
fn picked<'d>(segments: &[Segment<'d>], n: usize) -> Vec<(&'d Dispatch, Work)> {
    let mut counts: Vec<usize> = Vec::new();
    let mut picked = Vec::new();
    for (dispatch, work) in segments.iter().flat_map(|(all, work)| all.iter().map(move |one| (one, *work))) {
        let kind = dispatch.kind();
        counts.resize(counts.len().max(kind + 1), 0);
        if load(dispatch, work).is_some() && counts[kind] < n {
            counts[kind] += 1;
            picked.push((dispatch, work));
        }
    }
    picked
}
