//! Groups of layers that share their pages.
//!
//! Both groups' page tables have their entries at the same indices, so one number
//! identifies a row's first page. A window that covers the whole context counts as none.

use super::page_list::WINDOW_SLACK;
use crate::model::decoder::Decoder;

/// Maximum number of groups in a model; each has its own page table.
pub const KV_GROUPS_MAX: usize = 2;

/// Layers whose pages are taken and released together, because they see equally far back.
/// vLLM's hybrid cache manager calls them KV cache groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvGroup {
    /// Number of positions that the layers see, including the current one; `None` if they
    /// may see the whole context.
    pub window: Option<usize>,
    /// The layers, in order.
    pub layers: Vec<usize>,
}

impl KvGroup {
    /// Returns the groups of a model with a context of `n_ctx`: the layers that see
    /// farthest, then the other layers, if any. The window of the second group is the
    /// longest window of its layers.
    #[must_use]
    pub fn of(config: &Decoder, n_ctx: usize) -> Vec<KvGroup> {
        // A window counts as none if no page would ever be released.
        let reach = |&layer: &usize| config.window(layer).filter(|window| window + WINDOW_SLACK < n_ctx);
        let all: Vec<usize> = (0..config.n_layer).collect();
        let farthest = longest(all.iter().map(reach));
        let (far, near): (Vec<usize>, Vec<usize>) = all.iter().partition(|layer| reach(layer) == farthest);
        let near =
            (!near.is_empty()).then(|| KvGroup { window: longest(near.iter().map(reach)), layers: near });
        [KvGroup { window: farthest, layers: far }].into_iter().chain(near).collect()
    }
}

/// Returns the longest of several windows; `None` means unlimited.
fn longest(reaches: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    reaches.max_by_key(|reach| reach.unwrap_or(usize::MAX)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::decoder::LayerAttention;
    use crate::model::random::shape;

    fn groups(windows: &[Option<usize>], n_ctx: usize) -> Vec<(Option<usize>, Vec<usize>)> {
        let mut config = shape("gpt2").unwrap();
        config.n_layer = windows.len();
        config.attention.layers = windows.iter().map(|&window| LayerAttention { window, rope: 0 }).collect();
        KvGroup::of(&config, n_ctx).into_iter().map(|group| (group.window, group.layers)).collect()
    }

    #[test]
    fn layers_that_see_equally_far_form_one_group() {
        assert_eq!(groups(&[None; 3], 1000), [(None, vec![0, 1, 2])]);
        assert_eq!(groups(&[Some(9); 2], 1000), [(Some(9), vec![0, 1])]);
    }

    #[test]
    fn layers_with_windows_form_a_separate_group() {
        assert_eq!(groups(&[Some(9), None, Some(9)], 1000), [(None, vec![1]), (Some(9), vec![0, 2])]);
        // The longest of several windows counts for all of them.
        assert_eq!(groups(&[Some(5), None, Some(9)], 1000), [(None, vec![1]), (Some(9), vec![0, 2])]);
        assert_eq!(groups(&[Some(9), Some(40), Some(5)], 1000), [(Some(40), vec![1]), (Some(9), vec![0, 2])]);
    }

    #[test]
    fn windows_as_long_as_the_context_do_not_count() {
        let short = [Some(100), None];
        assert_eq!(groups(&short, 100 + WINDOW_SLACK), [(None, vec![0, 1])]);
        assert_eq!(groups(&short, 101 + WINDOW_SLACK), [(None, vec![1]), (Some(100), vec![0])]);
    }
}
