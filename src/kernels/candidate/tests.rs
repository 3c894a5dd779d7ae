use super::*;
use crate::gpu::CooperativeSizes;

fn device(strategy: Strategy, all: bool) -> Capabilities {
    let cooperative = CooperativeSizes { eight: all, sixteen: all };
    Capabilities { strategy, subgroups: all, quads: all, int64: all, cooperative }
}

#[test]
fn every_operation_has_an_implementation_on_every_floor() {
    for strategy in [Strategy::PerThread, Strategy::Workgroup, Strategy::Subgroup] {
        let choices = Choices::new(&device(strategy, false), &[]).unwrap();
        for op in Op::ALL {
            let chosen = choices.get(op);
            assert_eq!((chosen.op, chosen.needs), (op, Needs::Floor));
            assert_eq!(chosen.strategy == Strategy::PerThread, strategy == Strategy::PerThread, "{chosen}");
        }
    }
}

#[test]
fn untuned_defaults_are_the_measured_ones() {
    let names = |device: Capabilities| -> Vec<&str> {
        let choices = Choices::new(&device, &[]).unwrap();
        Op::ALL.into_iter().map(|op| choices.get(op).name).collect()
    };
    let fused = |op: &str| ["norm_gemv", "rms_gemv"].contains(&op);
    let per_thread = |gemv, gemm, attention| -> Vec<&str> {
        let name = |op: Op| match op.name() {
            "gemv" => gemv,
            "gemm" => gemm,
            "attention_prefill" | "attention_decode" => attention,
            op if fused(op) => "separate",
            _ => "per_thread",
        };
        Op::ALL.into_iter().map(name).collect()
    };
    let software = |all| device(Strategy::PerThread, all);
    let wide = "per_thread_wide";
    assert_eq!(names(software(true)), per_thread("per_thread_quad", "per_thread_4x8_quad", wide));
    let without_quads = Capabilities { quads: false, ..software(true) };
    assert_eq!(names(without_quads), per_thread("per_thread", "per_thread_4x8", wide));
    assert_eq!(names(software(false)), per_thread("per_thread", "per_thread_4x8", "per_thread"));

    // In the order of `Op::ALL`.
    let workgroup = [
        "workgroup_128",
        "workgroup_64",
        "workgroup_64",
        "workgroup_128",
        "workgroup_64",
        "tile_64x64",
        "tile_16x32",
        "workgroup_256",
        "workgroup_256",
    ];
    assert_eq!(names(device(Strategy::Workgroup, true)), workgroup);
    assert_eq!(names(device(Strategy::Workgroup, false)), workgroup);
    assert_eq!(names(device(Strategy::Subgroup, false)), workgroup);
    let subgroup = workgroup.map(|name| name.replace("workgroup", "subgroup"));
    assert_eq!(names(device(Strategy::Subgroup, true)), subgroup);
}

#[test]
fn no_two_defaults_of_a_strategy_have_the_same_rank() {
    for op in Op::ALL {
        let ranked = op.candidates().iter().filter(|c| c.preference > 0);
        let mut ranks: Vec<_> = ranked.map(|c| (c.strategy.name(), c.preference)).collect();
        ranks.sort_unstable();
        assert!(ranks.windows(2).all(|pair| pair[0] != pair[1]), "{op}: {ranks:?}");
    }
}

#[test]
fn names_are_unique_and_can_be_parsed() {
    for candidate in Op::ALL.iter().flat_map(|op| op.candidates()) {
        let read: &'static Candidate = candidate.to_string().parse().unwrap();
        assert_eq!(read, candidate);
    }
}

#[test]
fn unknown_and_impossible_variants_are_errors() {
    let error = |text: &str| text.parse::<&'static Candidate>().unwrap_err().to_string();
    assert!(error("gemm").contains("expected OP=NAME"), "{}", error("gemm"));
    assert!(error("gem=x").contains("expected one of layer_norm, gemv"), "{}", error("gem=x"));
    assert!(error("gemm=x").contains("per_thread_4x8"), "{}", error("gemm=x"));
    let wide = Op::Gemv.candidates().iter().find(|c| c.is_wide()).unwrap();
    assert!(Choices::new(&device(Strategy::PerThread, false), &[wide]).is_err());
    let choices = Choices::new(&device(Strategy::Workgroup, true), &[wide]).unwrap();
    assert_eq!(choices.get(Op::Gemv), wide);
    let cooperative: &'static Candidate = "gemm=cooperative_16".parse().unwrap();
    let only_8 = CooperativeSizes { eight: true, sixteen: false };
    let device = Capabilities { cooperative: only_8, ..device(Strategy::Workgroup, true) };
    let error = Choices::new(&device, &[cooperative]).unwrap_err().to_string();
    assert!(error.contains("CooperativeMatrix(16)"), "{error}");
}

#[test]
fn untuned_defaults_are_deterministic_and_exact() {
    for strategy in [Strategy::PerThread, Strategy::Workgroup, Strategy::Subgroup] {
        let choices = Choices::new(&device(strategy, true), &[]).unwrap();
        for op in Op::ALL {
            assert!(choices.get(op).is_deterministic(), "{}", choices.get(op));
            assert!(!choices.get(op).rounds_to_f16(), "{}", choices.get(op));
        }
    }
}

#[test]
fn a_model_runs_only_variants_that_its_options_allow() {
    let device = device(Strategy::Workgroup, true);
    let default = Choices::new(&device, &[]).unwrap();
    let chosen = |name: &str, deterministic, dtype| {
        let forced: &'static Candidate = name.parse().unwrap();
        let choices = Choices::new(&device, &[forced]).unwrap();
        assert_eq!(choices.get(Op::Gemm), forced);
        choices.for_model(&device, deterministic, dtype) == default
    };
    for (name, deterministic, dtype, gives_way) in [
        ("gemm=split_4", false, DType::F16, false),
        ("gemm=split_4", true, DType::F16, true),
        ("gemm=split_4", false, DType::F32, false),
        ("gemm=cooperative_16", false, DType::F16, false),
        ("gemm=cooperative_16", true, DType::F16, true),
        ("gemm=cooperative_8", false, DType::F32, true),
        ("gemm=tile_128x64", true, DType::F32, false),
    ] {
        assert_eq!(chosen(name, deterministic, dtype), gives_way, "{name} {deterministic} {dtype}");
    }
}
