//! The capabilities that kernels can rely on.

use super::Strategy;

/// The capabilities that decide which kernel variants a device can run, and which of them
/// it prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The family of kernel variants that the device prefers.
    pub strategy: Strategy,
    /// Whether shaders have subgroup operations.
    pub subgroups: bool,
    /// Whether every subgroup has at least four threads.
    pub quads: bool,
    /// Whether shaders have 64-bit integers.
    pub int64: bool,
    /// The cooperative matrices that shaders can use.
    pub cooperative: CooperativeSizes,
}

impl Capabilities {
    /// Builds the capabilities of a device. `listed` holds the adapter's cooperative
    /// matrices; `min_subgroup_size` is its smallest subgroup in threads.
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

/// The sizes of square cooperative matrices that multiply f16 and accumulate in f32.
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

    /// Returns whether `size` is one of them.
    #[must_use]
    pub fn has(self, size: u32) -> bool {
        match size {
            8 => self.eight,
            16 => self.sixteen,
            _ => false,
        }
    }
}

/// Features that every kernel with a cooperative matrix needs: the operands are f16, and
/// blocks are distributed by subgroup.
pub(super) const COOPERATIVE_FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Cooperative matrices are requested only if the maximum subgroup size, in threads, is
/// at least this. Mesa 26.2's llvmpipe lists cooperative matrices at any vector width,
/// but refuses to open a device with them if its subgroups are smaller. wgpu 30 panics at
/// the refusal.
pub(super) const COOPERATIVE_SUBGROUP: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_square_f16_matrices_with_their_features_count() {
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
