//! The keys and values of one sequence as bytes: to the host and back.
//!
//! They are addressed as one run: the first layer's pages in order of position, then
//! the second layer's, ...

use super::super::Model;
use super::super::kv_cache::PageList;
use super::Forward;
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer};
use crate::kernels::PAGE_SIZE;

/// A piece of the run that lies in one page.
struct Place<'a> {
    slab: &'a GpuBuffer,
    offset: u64,
    /// Where it begins within the piece that is copied.
    at: usize,
    bytes: usize,
}

impl Forward {
    /// Bytes that [`Forward::read_cache`] brings back at once, at the most.
    #[must_use]
    pub fn cache_piece_bytes(&self) -> u64 {
        self.readback.bytes()
    }

    /// Takes pages for the first `n` positions of an empty sequence.
    ///
    /// # Errors
    /// As [`Forward::run`]; `pages` may then hold some.
    pub fn take_pages(&mut self, gpu: &Gpu, model: &Model, pages: &mut PageList, n: usize) -> Result<()> {
        if n == 0 { Ok(()) } else { self.reserve(gpu, model, pages, 0, n) }
    }

    /// Copies bytes of a sequence of `n_positions` from `start` on into `bytes`, a
    /// multiple of 4. What lies behind the last position is zero: it may be another
    /// sequence's.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`] from the device.
    pub fn read_cache(
        &mut self,
        gpu: &Gpu,
        pages: &PageList,
        n_head: usize,
        n_positions: usize,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<()> {
        let mut encoder = gpu.encoder()?;
        for Place { slab, offset, at, bytes } in self.places(pages, n_positions, start, bytes.len()) {
            self.readback.copy_range(&mut encoder, slab, offset, at as u64, bytes as u64);
        }
        let n = bytes.len() as u64;
        let row_bytes = self.dims.page_bytes / (2 * n_head * PAGE_SIZE) as u64;
        self.readback.submit_and_read(gpu, encoder, n, || Ok(()), |read| bytes.copy_from_slice(read))?;
        self.blank(row_bytes, n_positions, start, bytes);
        Ok(())
    }

    /// Clears the rows of positions that are not the sequence's: `[2, n_head,
    /// PAGE_SIZE]` rows in each page.
    fn blank(&self, row_bytes: u64, n_positions: usize, start: u64, bytes: &mut [u8]) {
        let n_pages = n_positions.div_ceil(PAGE_SIZE) as u64;
        let rows_per_page = self.dims.page_bytes / row_bytes;
        let end = start + bytes.len() as u64;
        for row in start / row_bytes..end.div_ceil(row_bytes) {
            let page = row / rows_per_page % n_pages;
            let position = page * PAGE_SIZE as u64 + row % PAGE_SIZE as u64;
            if position >= n_positions as u64 {
                let from = (row * row_bytes).max(start) - start;
                let to = ((row + 1) * row_bytes).min(end) - start;
                bytes[from as usize..to as usize].fill(0);
            }
        }
    }

    /// Writes bytes of a sequence of `n_positions` from `start` on, a multiple of 4, and
    /// waits until the host's copy is free.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`] from the device.
    pub fn write_cache(
        &mut self,
        gpu: &Gpu,
        pages: &PageList,
        n_positions: usize,
        start: u64,
        bytes: &[u8],
    ) -> Result<()> {
        for Place { slab, offset, at, bytes: n } in self.places(pages, n_positions, start, bytes.len()) {
            gpu.upload(slab, offset, &bytes[at..at + n])?;
        }
        gpu.flush()
    }

    fn places<'a>(
        &'a self,
        pages: &'a PageList,
        n_positions: usize,
        start: u64,
        len: usize,
    ) -> impl Iterator<Item = Place<'a>> {
        let page_bytes = self.dims.page_bytes;
        let pages = &pages.pages()[..n_positions.div_ceil(PAGE_SIZE)];
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == len {
                return None;
            }
            let position = start + at as u64;
            let (index, within) = ((position / page_bytes) as usize, position % page_bytes);
            let (layer, page) = (index / pages.len(), pages[index % pages.len()]);
            let (slab, offset) = self.pool.place(page);
            let bytes = (len - at).min((page_bytes - within) as usize);
            let place = Place { slab: &self.pool.slabs(layer)[slab], offset: offset + within, at, bytes };
            at += bytes;
            Some(place)
        })
    }
}
