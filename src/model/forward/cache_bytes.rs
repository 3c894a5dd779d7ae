//! Reads and writes the keys and values of one sequence as bytes.
//!
//! The bytes form one range: the first layer's pages in order of position, then the
//! second layer's, and so on. Pages that fell out of a layer's window are omitted.

use super::super::Model;
use super::super::kv_cache::{GroupPages, KV_GROUPS_MAX, KvCache, PageLists};
use super::Forward;
use crate::error::Result;
use crate::gpu::GpuBuffer;
use crate::kernels::PAGE_SIZE;

/// A part of the range that is within one page.
struct Place<'a> {
    slab: &'a GpuBuffer,
    offset: u64,
    /// Offset of the part in the bytes that are copied.
    at: usize,
    bytes: usize,
    /// The page's index in the sequence, and the part's offset in that page.
    page: usize,
    within: u64,
}

impl Forward {
    /// Returns the maximum bytes that [`Forward::read_cache`] can read at once.
    #[must_use]
    pub fn cache_piece_bytes(&self) -> u64 {
        self.readback.bytes()
    }

    /// Returns the first page of the sequence that each layer holds, `[n_layer]`: 0
    /// except for layers with a window.
    #[must_use]
    pub fn first_pages(&self, pages: &PageLists) -> Vec<u64> {
        (0..self.cache.n_layer()).map(|layer| pages.list(self.cache.group(layer)).n_absent() as u64).collect()
    }

    /// Reserves pages for the first `n` positions of an empty sequence, except pages
    /// before the first page of each layer. Returns `false` and takes no page if the
    /// layers of this cache cannot begin at these pages.
    ///
    /// # Errors
    /// As [`Forward::run`]; `pages` may then hold some.
    pub fn take_pages(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        n: usize,
        first_pages: &[u64],
    ) -> Result<bool> {
        let Some(first) = self.first_by_group(first_pages) else { return Ok(false) };
        if !pages.lists().iter().zip(first).all(|(list, first)| list.may_skip(first, n)) {
            return Ok(false);
        }
        if n > 0 {
            pages.skip(&self.cache, first);
            self.reserve(model, pages, 0, n)?;
        }
        Ok(true)
    }

    /// Converts the layers' first pages to the groups' first pages; `None` if layers of
    /// one group differ.
    fn first_by_group(&self, of_layers: &[u64]) -> Option<GroupPages> {
        if of_layers.len() != self.cache.n_layer() {
            return None;
        }
        let mut of_groups = [None; KV_GROUPS_MAX];
        for (layer, &first) in of_layers.iter().enumerate() {
            let first = usize::try_from(first).ok()?;
            if *of_groups[self.cache.group(layer)].get_or_insert(first) != first {
                return None;
            }
        }
        Some(of_groups.map(Option::unwrap_or_default))
    }

    /// Copies a part of a sequence's bytes, starting at `start`, into `bytes`. The
    /// sequence has `n_positions`. `start` and the length are multiples of 4. Bytes after
    /// the last position become zero, because they may belong to another sequence.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`] from the device.
    pub fn read_cache(
        &mut self,
        model: &Model,
        pages: &PageLists,
        n_positions: usize,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<()> {
        let page_bytes = self.dims.page_bytes;
        let places = places(&self.cache, page_bytes, pages, n_positions, start, bytes.len());
        let gpu = &model.gpu;
        let mut encoder = gpu.encoder()?;
        for &Place { slab, offset, at, bytes, .. } in &places {
            self.readback.copy_range(&mut encoder, slab, offset, at as u64, bytes as u64);
        }
        let n = bytes.len() as u64;
        self.readback.submit_and_read(gpu, encoder, n, || Ok(()), |read| bytes.copy_from_slice(read))?;
        let row_bytes = page_bytes / (2 * model.config.attention.n_kv_head * PAGE_SIZE) as u64;
        let partly_filled = places.iter().filter(|place| place.page == n_positions / PAGE_SIZE);
        partly_filled.for_each(|place| blank(place, row_bytes, n_positions % PAGE_SIZE, bytes));
        Ok(())
    }

    /// Writes a part of a sequence's bytes, starting at `start`. Waits until the host's
    /// copy is free. The sequence has `n_positions`. `start` and the length are multiples
    /// of 4.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`] from the device.
    pub fn write_cache(
        &mut self,
        model: &Model,
        pages: &PageLists,
        n_positions: usize,
        start: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let places = places(&self.cache, self.dims.page_bytes, pages, n_positions, start, bytes.len());
        for Place { slab, offset, at, bytes: n, .. } in places {
            model.gpu.upload(slab, offset, &bytes[at..at + n])?;
        }
        model.gpu.flush()
    }
}

/// Returns the parts of pages that hold the `len` bytes of the range from `start` on.
fn places<'a>(
    cache: &'a KvCache,
    page_bytes: u64,
    pages: &PageLists,
    n_positions: usize,
    start: u64,
    len: usize,
) -> Vec<Place<'a>> {
    let end = start + len as u64;
    let mut places = Vec::new();
    let mut layer_start = 0;
    for layer in 0..cache.n_layer() {
        let list = pages.list(cache.group(layer));
        let held = list.n_absent()..n_positions.div_ceil(PAGE_SIZE);
        let layer_end = layer_start + held.len() as u64 * page_bytes;
        let mut position = start.max(layer_start);
        while position < end.min(layer_end) {
            let (index, within) =
                (((position - layer_start) / page_bytes) as usize, (position - layer_start) % page_bytes);
            let page = held.start + index;
            let (slab, offset) = cache.pool(layer).place(list.pages()[page]);
            let bytes = (end.min(layer_end) - position).min(page_bytes - within);
            places.push(Place {
                slab: &cache.slabs(layer)[slab],
                offset: offset + within,
                at: (position - start) as usize,
                bytes: bytes as usize,
                page,
                within,
            });
            position += bytes;
        }
        layer_start = layer_end;
    }
    places
}

/// Clears the rows of a partly filled page after its first `n_filled` positions. A page
/// has `[2, n_kv_head, PAGE_SIZE]` rows.
fn blank(place: &Place<'_>, row_bytes: u64, n_filled: usize, bytes: &mut [u8]) {
    let end = place.within + place.bytes as u64;
    let rows = place.within / row_bytes..end.div_ceil(row_bytes);
    for row in rows.filter(|row| (row % PAGE_SIZE as u64) as usize >= n_filled) {
        let from = (row * row_bytes).max(place.within) - place.within;
        let to = ((row + 1) * row_bytes).min(end) - place.within;
        bytes[place.at + from as usize..place.at + to as usize].fill(0);
    }
}
