// Activation functions of the MLP, numbered as in the Rust enum `Activation`. Every f(0)
// is 0, so padded outputs stay 0.

// tanh, computed with exp. The argument is clamped because compilers may assume that
// infinity does not occur. tanh(±10) is ±1 in f32. The absolute error is below 2e-7.
fn tanh_clamped(x: vec4<f32>) -> vec4<f32> {
    let e = exp(2.0 * clamp(x, vec4<f32>(-10.0), vec4<f32>(10.0)));
    return 1.0 - 2.0 / (e + 1.0);
}

// The argument is clamped for the same reason: sigmoid(±80) is 0 or 1 in f32.
fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(-clamp(x, vec4<f32>(-80.0), vec4<f32>(80.0))));
}

// Abramowitz and Stegun 7.1.26: |error| <= 1.5e-7.
fn erf(x: vec4<f32>) -> vec4<f32> {
    let a = min(abs(x), vec4<f32>(10.0));
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - poly * exp(-a * a));
}

fn activate(kind: u32, x: vec4<f32>) -> vec4<f32> {
    switch kind {
        // gelu_new, gelu_pytorch_tanh, gelu_fast: Hendrycks and Gimpel 2016, tanh form
        case 1u: { return 0.5 * x * (1.0 + tanh_clamped(0.7978845608 * x * (1.0 + 0.044715 * x * x))); }
        // gelu: the exact form
        case 2u: { return 0.5 * x * (1.0 + erf(0.7071067812 * x)); }
        // quick_gelu
        case 3u: { return x * sigmoid(1.702 * x); }
        case 4u: { return max(x, vec4<f32>(0.0)); }
        // silu
        case 5u: { return x * sigmoid(x); }
        case 6u: { return tanh_clamped(x); }
        default: { return x; }
    }
}

