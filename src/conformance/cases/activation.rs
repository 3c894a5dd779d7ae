//! Activation functions of the reference, and error bounds of the shaders' versions.

use super::data::U;
use crate::kernels::Activation;
use crate::reference;

/// Maximum slope of any activation; GELU has it.
pub(super) const STEEPEST: f64 = 1.13;

/// Relative error of a soft cap. The shader documents it.
pub(super) const SOFT_CAP_ERROR: f64 = 1.5e-6;

/// Returns the reference's function.
pub(super) fn function(activation: Activation) -> fn(f64) -> f64 {
    match activation {
        Activation::None => |x| x,
        Activation::GeluTanh => reference::activation::gelu_tanh,
        Activation::Gelu => reference::activation::gelu,
        Activation::QuickGelu => reference::activation::quick_gelu,
        Activation::Relu => reference::activation::relu,
        Activation::Silu => reference::activation::silu,
        Activation::Tanh => f64::tanh,
    }
}

/// Returns the absolute error that the shader's function may have at `±magnitude`.
pub(super) fn function_error(activation: Activation, magnitude: f64) -> f64 {
    match activation {
        Activation::None | Activation::Relu => 0.0,
        // 1 - 2 / (e + 1) has one division of 2.5 ulp (WGSL's bound) and two roundings
        // near 1.
        Activation::Tanh => 8.0 * U,
        // x times a factor in [0, 1] whose absolute error is as above. The polynomial of
        // erf adds 1.5e-7. The relative error of exp is 3 + 2|y| ulp, which counts as at
        // most y e^-y.
        Activation::GeluTanh | Activation::Gelu | Activation::QuickGelu | Activation::Silu => {
            16.0 * U * magnitude
        }
    }
}
