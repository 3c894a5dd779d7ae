// out[row, i] = activate(gate[row, i]) * up[row, i]
//
// One thread computes four consecutive outputs. In x, four elements of gate and four of
// up alternate, like the columns of the projection.
// Ragged edge: guarded; columns are padded to a multiple of 8, and every activation of 0 is 0.
//
// Fragments in common/: step, activation.
struct GatedParams {
    // Output row length divided by 4.
    n4: u32,
    // Number of the activation function.
    activation: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: GatedParams;
@group(0) @binding(1) var<uniform> step: Step;
// [n_rows, n4, 2 (gate, up), 4]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [n_rows, 4 * n4]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gated(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    if (index < step.n_rows * params.n4) {
        out[index] = activate(params.activation, x[2u * index]) * x[2u * index + 1u];
    }
}
