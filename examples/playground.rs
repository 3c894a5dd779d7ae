#![allow(missing_docs)]
// usage: playground FILE.wgsl entry n k m gx_per gy_per layout [CONST=v ...] [frag=name,..]
use std::time::Instant;
use wgpt::gpu::*;
use wgpt::kernels::{MatmulParams, Step};
fn leak<T>(x: T) -> &'static T {
    Box::leak(Box::new(x))
}
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let file = std::fs::read_to_string(&args[0]).unwrap();
    let name: &'static str = leak(args[1].clone());
    let (n, k, m): (usize, usize, usize) =
        (args[2].parse().unwrap(), args[3].parse().unwrap(), args[4].parse().unwrap());
    let (gx, gy): (usize, usize) = (args[5].parse().unwrap(), args[6].parse().unwrap());
    let layout = &args[7];
    let mut constants = vec![];
    let mut frags = "step,pack_f16,activation,matmul".to_string();
    for a in &args[8..] {
        let (c, v) = a.split_once('=').unwrap();
        if c == "frag" {
            frags = v.to_string();
            continue;
        }
        constants.push((&**leak(c.to_string()), v.parse::<u32>().unwrap()));
    }
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let mut src = String::new();
    for f in frags.split(',').filter(|f| !f.is_empty()) {
        src += &std::fs::read_to_string(format!("shaders/common/{f}.wgsl")).unwrap();
    }
    src += &file;
    let kernel = leak(Kernel {
        name,
        source: leak(src),
        bindings: leak(vec![
            Binding::uniform(0, "params"),
            Binding::uniform(1, "step"),
            if std::env::var("XU").is_ok() { Binding::uniform(2, "x") } else { Binding::read(2, "x") },
            Binding::read(3, "weights"),
            Binding::read(4, "bias"),
            Binding::read_write(5, "out"),
        ]),
    });
    let variant = Variant { kernel, strategy: Strategy::PerThread, fragments: vec![], constants };
    let mut s = 12345u64;
    let mut rnd = || {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((s >> 40) as f32 / (1u64 << 24) as f32) - 0.5
    };
    let w: Vec<half::f16> = (0..n * k).map(|_| half::f16::from_f32(rnd())).collect();
    let x: Vec<f32> = (0..m * k).map(|_| rnd()).collect();
    // layouts: row; iB: blocks of B rows interleaved by pack of 8
    let wl: Vec<half::f16> = if let Some(b) = layout.strip_prefix('i') {
        let b: usize = b.parse().unwrap();
        let mut out = vec![half::f16::ZERO; n * k];
        for r in 0..n {
            for c in 0..k {
                let (blk, l) = (r / b, r % b);
                let (p, e) = (c / 8, c % 8);
                out[((blk * (k / 8) + p) * b + l) * 8 + e] = w[r * k + c];
            }
        }
        out
    } else {
        w.clone()
    };
    let copies = ((160usize << 20) / (n * k * 2)).clamp(1, 64);
    let g = MemoryGroup::Weights;
    let ws: Vec<_> =
        (0..copies).map(|_| gpu.allocate_with("w", bytemuck::cast_slice(&wl), g).unwrap()).collect();
    // x and also transposed x for kernels that want it
    let xt: Vec<f32> = if std::env::var("XT").is_ok() {
        let mp = m.next_multiple_of(8);
        let mut t = vec![0.0; mp * k];
        for i in 0..m {
            for j in 0..k {
                t[j * mp + i] = x[i * k + j];
            }
        }
        t
    } else {
        x.clone()
    };
    let xb = gpu.allocate_with("x", bytemuck::cast_slice(&xt), g).unwrap();
    let bias = gpu.allocate_with("b", &vec![0u8; n * 4], g).unwrap();
    let out = gpu.allocate_with("o", &vec![0u8; m * n * 4], g).unwrap();
    let step = gpu
        .allocate_with(
            "s",
            bytemuck::bytes_of(&Step { n_rows: m as u32, first_row: 0, position: 0, kv_len: 0 }),
            g,
        )
        .unwrap();
    let mut params = Params::new(&gpu, 8).unwrap();
    let p = MatmulParams {
        n: n as u32,
        k8: (k / 8) as u32,
        out_offset4: 0,
        out_stride4: (n / 4) as u32,
        activation: 0,
        has_bias: 1,
        accumulate: 0,
        unused: 0,
    };
    let grid = Grid::Plane(Extent::Fixed(n.div_ceil(gx) as u32), Extent::Fixed(m.div_ceil(gy) as u32));
    let mut rec = Recorder::new(&gpu, &mut params);
    for w in &ws {
        rec.dispatch(
            &variant,
            &p,
            &[(&step).into(), (&xb).into(), w.into(), (&bias).into(), (&out).into()],
            grid,
        )
        .unwrap();
    }
    let all = rec.finish();
    let work = Work { n_rows: m as u32, kv_len: 0 };
    let t = Instant::now();
    gpu.run(&all[..1], work).unwrap();
    let compile = t.elapsed().as_secs_f64();
    let o: Vec<f32> = bytemuck::cast_slice(&gpu.read_buffer(&out).unwrap()).to_vec();
    let mut worst = 0.0f64;
    for i in 0..m {
        for j in (0..n).step_by((n / 64).max(1)).chain([n - 1]) {
            let e: f64 = (0..k).map(|c| x[i * k + c] as f64 * f64::from(w[j * k + c])).sum();
            worst = worst.max((e - o[i * n + j] as f64).abs());
        }
    }
    let reps = 15;
    let mut times = vec![];
    let per = if m > 1 { 1 } else { copies.min(8) };
    for r in 0..reps {
        let a = (r * per) % copies;
        let b = (a + per).min(copies);
        let t = Instant::now();
        gpu.run(&all[a..b], work).unwrap();
        times.push(t.elapsed().as_secs_f64() / (b - a) as f64);
    }
    times.sort_by(f64::total_cmp);
    let med = times[reps / 2];
    let min = times[0];
    println!(
        "{:<28} n={n} k={k} m={m} err {worst:.1e} compile {compile:.2}s med {:.1}us min {:.1}us  {:.2} GB/s (max {:.2})  {:.1} GFLOP/s (max {:.1})",
        args[1].clone() + " " + &args[8..].join(" "),
        med * 1e6,
        min * 1e6,
        (n * k * 2) as f64 / med / 1e9,
        (n * k * 2) as f64 / min / 1e9,
        2.0 * (n * k * m) as f64 / med / 1e9,
        2.0 * (n * k * m) as f64 / min / 1e9
    );
}
