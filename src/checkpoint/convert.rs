//! Conversion of `f32` to f16, the default dtype of weights on the GPU.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// The exponent bits of an f16. They are all set only in an infinity or a NaN.
const F16_EXPONENT: u16 = 0x7C00;

/// A value that f16 cannot represent: it is not finite, or its magnitude is at least
/// 65,520 and rounds beyond the largest f16, 65,504.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutOfRange {
    /// Its index in the input slice.
    pub index: usize,
    /// The value.
    pub value: f32,
}

/// Rounds `values` to f16, to nearest with ties to even, and writes the bits to `out`.
/// This turns magnitudes below 2^-25 into zero.
///
/// # Errors
/// [`OutOfRange`] with the first value that f16 cannot represent; `out` is then unusable.
///
/// # Panics
/// If the lengths differ.
pub fn convert_f16(values: &[f32], out: &mut [u16]) -> Result<(), OutOfRange> {
    assert_eq!(values.len(), out.len(), "convert_f16: one f16 for each f32");
    bytemuck::cast_slice_mut::<u16, f16>(out).convert_from_f32_slice(values);
    // A fold over all values has no early exit and is vectorised, unlike a search.
    let any = out.iter().fold(false, |any, bits| any | (bits & F16_EXPONENT == F16_EXPONENT));
    if !any {
        return Ok(());
    }
    match out.iter().position(|bits| bits & F16_EXPONENT == F16_EXPONENT) {
        Some(index) => Err(OutOfRange { index, value: values[index] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest f16, and the midpoint between it and 2^16.
    const MAX: f32 = 65504.0;
    const MIDPOINT: f32 = 65520.0;

    fn convert_one(value: f32) -> Result<u16, OutOfRange> {
        let mut out = [0];
        convert_f16(&[value], &mut out).map(|()| out[0])
    }

    #[test]
    fn every_f16_survives_the_conversion_to_f32_and_back() {
        let finite = (0..=u16::MAX).filter(|bits| bits & F16_EXPONENT != F16_EXPONENT);
        for bits in finite {
            assert_eq!(convert_one(f16::from_bits(bits).to_f32()), Ok(bits));
        }
    }

    #[test]
    fn midpoints_round_to_even_and_their_neighbours_to_nearest() {
        // Every midpoint of two finite f16 neighbours, both signs.
        for sign in [0, 0x8000_u16] {
            for low in 0..0x7BFF_u16 {
                let (a, b) = (f16::from_bits(low | sign).to_f32(), f16::from_bits((low + 1) | sign).to_f32());
                let middle = f32::midpoint(a, b);
                let even = low + (low & 1);
                assert_eq!(convert_one(middle), Ok(even | sign), "{middle:e}");
                assert_eq!(convert_one(f32::from_bits(middle.to_bits() - 1)), Ok(low | sign));
                assert_eq!(convert_one(f32::from_bits(middle.to_bits() + 1)), Ok((low + 1) | sign));
            }
        }
    }

    #[test]
    fn values_from_65520_on_are_refused() {
        let below = f32::from_bits(MIDPOINT.to_bits() - 1);
        assert_eq!(convert_one(MAX), Ok(0x7BFF));
        assert_eq!(convert_one(below), Ok(0x7BFF));
        assert_eq!(convert_one(-below), Ok(0xFBFF));
        for value in [MIDPOINT, -MIDPOINT, f32::MAX, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(convert_one(value), Err(OutOfRange { index: 0, value }));
        }
        let error = convert_one(f32::NAN).unwrap_err();
        assert!(error.index == 0 && error.value.is_nan());
    }

    #[test]
    fn the_first_bad_value_is_reported_at_any_index() {
        for index in 0..70 {
            let mut values = [1.5_f32; 71];
            values[index] = -1e6;
            values[70] = f32::INFINITY;
            let error = convert_f16(&values, &mut [0; 71]);
            assert_eq!(error, Err(OutOfRange { index, value: -1e6 }));
        }
    }
}
