//! What kernels can count on.

use super::Strategy;

/// What decides which kernel variants a device can run, and which it prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The family of kernel variants that it prefers.
    pub strategy: Strategy,
    /// Whether shaders have subgroup operations.
    pub subgroups: bool,
    /// Whether each of its subgroups has four threads or more.
    pub quads: bool,
    /// Whether shaders have 64-bit integers.
    pub int64: bool,
    /// The cooperative matrices that shaders can use.
    pub cooperative: CooperativeSizes,
}

impl Capabilities {
    /// `listed` are the adapter's cooperative matrices, `min_subgroup_size` the threads of its
    /// smallest subgroup.
    pub(super) fn new(
        strategy: Strategy,
        features: wgpu::Features,
        listed: CooperativeSizes,
        min_subgroup_size: u32,
    ) -> Self {
        let usable = features.contains(COOPERATIVE_FEATURES);
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        Capabilities {
            strategy,
            subgroups,
            quads: subgroups && min_subgroup_size >= 4,
            int64: features.contains(wgpu::Features::SHADER_INT64),
            cooperative: if usable { listed } else { CooperativeSizes::default() },
        }
    }
}

/// Sizes of the square cooperative matrices that multiply f16 and add up in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CooperativeSizes {
    /// 8 x 8 x 8.
    pub eight: bool,
    /// 16 x 16 x 16.
    pub sixteen: bool,
}

impl CooperativeSizes {
    pub(super) fn new(listed: &[wgpu::CooperativeMatrixProperties]) -> Self {
        use wgpu::CooperativeScalarType::{F16, F32};
        let has = |size| {
            listed
                .iter()
                .any(|m| [m.m_size, m.n_size, m.k_size] == [size; 3] && (m.ab_type, m.cr_type) == (F16, F32))
        };
        CooperativeSizes { eight: has(8), sixteen: has(16) }
    }

    /// Whether `size` is among them.
    #[must_use]
    pub fn has(self, size: u32) -> bool {
        match size {
            8 => self.eight,
            16 => self.sixteen,
            _ => false,
        }
    }
}

/// Features without which no kernel can use a cooperative matrix: operands are
/// f16, blocks are dealt out by subgroup.
pub(super) const COOPERATIVE_FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Mesa 26.2's llvmpipe lists cooperative matrices whatever its vectors are, but
/// refuses a device that has them where subgroups are smaller than this, and wgpu
/// 30 panics at the refusal.
pub(super) const COOPERATIVE_SUBGROUP: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_count_where_they_are_square_of_f16_and_their_features_are_there() {
        use wgpu::CooperativeScalarType::{F16, F32};
        let listed = |m_size, k_size, ab_type, cr_type| {
            CooperativeSizes::new(&[wgpu::CooperativeMatrixProperties {
                m_size,
                n_size: 16,
                k_size,
                ab_type,
                cr_type,
                saturating_accumulation: false,
            }])
        };
        let sixteen = CooperativeSizes { eight: false, sixteen: true };
        assert_eq!(listed(16, 16, F16, F32), sixteen);
        for other in [listed(8, 16, F16, F32), listed(16, 8, F16, F32)] {
            assert_eq!(other, CooperativeSizes::default());
        }
        for other in [listed(16, 16, F16, F16), listed(16, 16, F32, F32)] {
            assert_eq!(other, CooperativeSizes::default());
        }
        let usable = |features| Capabilities::new(Strategy::Subgroup, features, sixteen, 32).cooperative;
        assert!(usable(COOPERATIVE_FEATURES).has(16) && !usable(COOPERATIVE_FEATURES).has(8));
        for feature in COOPERATIVE_FEATURES.iter() {
            assert!(!usable(COOPERATIVE_FEATURES - feature).has(16), "{feature:?}");
        }
    }

    #[test]
    fn quads_need_subgroups_of_four() {
        let quads = |features, size| {
            Capabilities::new(Strategy::PerThread, features, CooperativeSizes::default(), size).quads
        };
        let subgroups = wgpu::Features::SUBGROUP;
        assert!(quads(subgroups, 4) && quads(subgroups, 32));
        assert!(!quads(subgroups, 2) && !quads(wgpu::Features::empty(), 32));
    }
}
