// Returns cap * tanh(x / cap), for cap above 0.
//
// The relative error is below 1.5e-6, even if division and exp are as inaccurate as WGSL
// allows. Near 0, the formula 1 - 2 / (e^2y + 1) would suffer from cancellation. A
// polynomial for tanh(y) - y replaces it there (Cephes: Moshier, tanhf.c), within 1.3e-7
// up to 0.625.
fn soft_capped(x: vec4<f32>, cap: f32) -> vec4<f32> {
    let y = x / cap;
    let y2 = y * y;
    let poly = ((((-5.70498872745e-3 * y2 + 2.06390887954e-2) * y2 - 5.37397155531e-2) * y2
        + 1.33314422036e-1) * y2 - 3.33332819422e-1) * y2;
    let near = fma(poly, y, y);
    // Compilers may assume that infinity does not occur, so y is limited. tanh(10) is 1
    // in f32.
    let far = 1.0 - 2.0 / (exp(2.0 * min(abs(y), vec4<f32>(10.0))) + 1.0);
    return cap * select(sign(y) * far, near, abs(y) < vec4<f32>(0.625));
}
