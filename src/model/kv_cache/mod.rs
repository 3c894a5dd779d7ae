//! Keys and values on the GPU: a pool of pages for each group of layers, and the pages
//! that sequences hold.

mod group;
mod page_list;
mod pool;

pub use group::{KV_GROUPS_MAX, KvGroup};
pub use page_list::PageList;
pub(super) use page_list::WINDOW_SLACK;
pub use pool::KvPool;
pub(super) use pool::{SPARE_SLAB_BYTES, SPARE_SLABS};

use super::decoder::Decoder;
use super::dims::Dims;
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer};

/// Pages by group; 0 for a group that the model does not have.
pub type GroupPages = [usize; KV_GROUPS_MAX];

/// One pool for each group of layers.
#[derive(Clone, Debug)]
pub struct KvCache {
    pools: Vec<KvPool>,
    /// For each layer, its group and its index in that group.
    layers: Vec<(usize, usize)>,
}

impl KvCache {
    /// Creates a cache with [`Dims::initial_pages`].
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, dims: &Dims) -> Result<Self> {
        let n_layer = dims.groups.iter().map(|group| group.layers.len()).sum();
        let mut layers = vec![(0, 0); n_layer];
        for (index, group) in dims.groups.iter().enumerate() {
            for (place, &layer) in group.layers.iter().enumerate() {
                layers[layer] = (index, place);
            }
        }
        let pools = dims.groups.iter().map(|group| KvPool::new(dims, group.layers.len())).collect();
        KvCache { pools, layers }.grown(gpu, dims.initial_pages)
    }

    /// Returns the number of layers.
    #[must_use]
    pub fn n_layer(&self) -> usize {
        self.layers.len()
    }

    /// Returns the group of a layer.
    #[must_use]
    pub fn group(&self, layer: usize) -> usize {
        self.layers[layer].0
    }

    /// Returns the pool of a layer's group.
    #[must_use]
    pub fn pool(&self, layer: usize) -> &KvPool {
        &self.pools[self.group(layer)]
    }

    /// Returns the slabs of one layer.
    #[must_use]
    pub fn slabs(&self, layer: usize) -> &[GpuBuffer] {
        let (group, place) = self.layers[layer];
        self.pools[group].slabs(place)
    }

    /// Returns the pools, by group.
    #[must_use]
    pub fn pools(&self) -> &[KvPool] {
        &self.pools
    }

    /// Returns whether at least `wanted` pages of each group are free.
    #[must_use]
    pub fn has_free(&self, wanted: GroupPages) -> bool {
        self.pools.iter().zip(wanted).all(|(pool, wanted)| wanted <= pool.n_free())
    }

    /// Returns whether no sequence holds a page.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.pools.iter().all(|pool| pool.n_free() == pool.n_pages())
    }

    /// Returns the number of pages of each group.
    #[must_use]
    pub fn n_pages(&self) -> GroupPages {
        by_group(self.pools.iter().map(KvPool::n_pages))
    }

    /// Returns a copy grown to at least `n_pages` per group; `self` is unchanged.
    ///
    /// # Errors
    /// As [`KvPool::grown`].
    pub fn grown(&self, gpu: &Gpu, n_pages: GroupPages) -> Result<Self> {
        let grow = |(pool, n_pages): (&KvPool, usize)| {
            if n_pages > pool.n_pages() { pool.grown(gpu, n_pages) } else { Ok(pool.clone()) }
        };
        let pools = self.pools.iter().zip(n_pages).map(grow).collect::<Result<_>>()?;
        Ok(KvCache { pools, layers: self.layers.clone() })
    }

    /// Returns the bytes that [`KvCache::grown`] would allocate.
    #[must_use]
    pub fn growth_bytes(&self, n_pages: GroupPages) -> u64 {
        self.pools.iter().zip(n_pages).map(|(pool, n_pages)| pool.growth_bytes(n_pages)).sum()
    }

    /// Returns the bytes of all slabs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pools.iter().map(KvPool::bytes).sum()
    }

    /// Drops all slabs. No sequence may hold a page. Page lists of this cache stay valid.
    pub(super) fn clear(&mut self) {
        self.pools.iter_mut().for_each(KvPool::clear);
    }
}

/// The pages of one sequence, one list per group. Release them with
/// [`PageLists::truncate`] to 0 before dropping the lists, unless their cache is gone.
#[derive(Debug)]
pub struct PageLists {
    lists: Vec<PageList>,
}

impl PageLists {
    /// Creates empty lists with capacity for `n_ctx` positions of a model.
    #[must_use]
    pub fn new(config: &Decoder, n_ctx: usize) -> Self {
        let list = |group: KvGroup| PageList::with_capacity(n_ctx, group.window);
        PageLists { lists: KvGroup::of(config, n_ctx).into_iter().map(list).collect() }
    }

    /// Returns the list of one group.
    #[must_use]
    pub fn list(&self, group: usize) -> &PageList {
        &self.lists[group]
    }

    /// Returns the lists, by group.
    #[must_use]
    pub fn lists(&self) -> &[PageList] {
        &self.lists
    }

    /// As [`PageList::holds`], for every group.
    #[must_use]
    pub fn holds(&self, cache: &KvCache, len: usize) -> bool {
        self.lists.iter().zip(&cache.pools).all(|(list, pool)| list.holds(pool, len))
    }

    /// As [`PageList::fork`], for every group.
    #[must_use]
    pub fn fork(&self, cache: &mut KvCache) -> Self {
        PageLists {
            lists: self.lists.iter().zip(&mut cache.pools).map(|(list, pool)| list.fork(pool)).collect(),
        }
    }

    /// As [`PageList::truncate`], for every group.
    pub fn truncate(&mut self, cache: &mut KvCache, len: usize) {
        self.lists.iter_mut().zip(&mut cache.pools).for_each(|(list, pool)| list.truncate(pool, len));
    }

    /// As [`PageList::pages_wanted`], for every group.
    #[must_use]
    pub fn pages_wanted(&self, cache: &KvCache, len: usize, n_new: usize) -> GroupPages {
        let both = self.lists.iter().zip(&cache.pools);
        by_group(both.map(|(list, pool)| list.pages_wanted(pool, len, n_new)))
    }

    /// As [`PageList::reserve`], for every group. After an error some lists may hold
    /// pages for the new positions, and the caller truncates them.
    ///
    /// # Errors
    /// As [`PageList::reserve`].
    pub fn reserve(
        &mut self,
        gpu: &Gpu,
        cache: &mut KvCache,
        len: usize,
        n_new: usize,
        scratch: &GpuBuffer,
    ) -> Result<()> {
        let mut both = self.lists.iter_mut().zip(&mut cache.pools);
        both.try_for_each(|(list, pool)| list.reserve(gpu, pool, len, n_new, scratch))
    }

    /// As [`PageList::skip`], for every group.
    pub(super) fn skip(&mut self, cache: &KvCache, n_absent: GroupPages) {
        for ((list, pool), n_absent) in self.lists.iter_mut().zip(&cache.pools).zip(n_absent) {
            list.skip(pool, n_absent);
        }
    }
}

/// Collects the numbers of a model's groups. A group that the model does not have gets 0.
fn by_group(numbers: impl Iterator<Item = usize>) -> GroupPages {
    let mut all = [0; KV_GROUPS_MAX];
    all.iter_mut().zip(numbers).for_each(|(all, number)| *all = number);
    all
}
