//! The contract of every shader: one entry point named like its file, bindings that match
//! its descriptor, parameters laid out as in Rust, within the portable limits, and
//! translatable for every backend. No adapter is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::process::{Command, Stdio};

use naga::back::{hlsl, msl, spv};
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};
use wgpt::Strategy;
use wgpt::internals::gpu::{Binding, BindingKind, Variant};
use wgpt::internals::kernels::{self, AttentionParams, MatmulParams, Step};

/// Returns whether the variant loads 64 bits at a time.
fn is_wide(variant: &Variant) -> bool {
    variant.fragments.iter().any(|fragment| fragment.name.ends_with("_wide"))
}

/// Returns whether the variant uses subgroup operations.
fn uses_subgroups(variant: &Variant) -> bool {
    variant.strategy == Strategy::Subgroup || variant.fragments.iter().any(|f| f.name == "lane_subgroup")
}

/// Returns whether the variant multiplies cooperative matrices, a naga extension.
fn is_cooperative(variant: &Variant) -> bool {
    variant.enables().any(|extension| extension == "wgpu_cooperative_matrix")
}

fn parse(variant: &Variant) -> (Module, ModuleInfo) {
    let text = variant.wgsl();
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{}:\n{}", variant.label(), e.emit_to_string(&text)));
    // unpack2x16float is core WGSL (the flag is for GLES). Subgroup operations and 64-bit
    // integers are allowed only if the variant declares them.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let cooperative = is_cooperative(variant);
    capabilities.set(Capabilities::SUBGROUP, uses_subgroups(variant) || cooperative);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16, cooperative);
    capabilities.set(Capabilities::SHADER_INT64, is_wide(variant));
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}:\n{}", variant.label(), e.emit_to_string(&text)));
    (module, info)
}

fn names_in(folder: &str) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect()
}

/// The suffixes that follow the operation's name in a shader's name.
const PARTS: [&str; 11] = [
    "_per_thread",
    "_scores",
    "_weights",
    "_values",
    "_max",
    "_weigh",
    "_cut",
    "_sum",
    "_draw",
    "_cooperative",
    "_merge",
];

/// The forms of a norm, which precede the operation's name in a shader's name.
const FORMS: [&str; 2] = ["layer_", "rms_"];

#[test]
fn every_file_is_registered_and_used() {
    let registry = kernels::registry();
    let kernels: BTreeSet<String> = registry.iter().map(|variant| variant.kernel.name.into()).collect();
    assert_eq!(kernels, names_in("shaders"));
    let fragments: BTreeSet<String> =
        registry.iter().flat_map(|variant| &variant.fragments).map(|fragment| fragment.name.into()).collect();
    assert_eq!(fragments, names_in("shaders/common"));
    for variant in &registry {
        let file = format!("shaders/{}.wgsl", variant.kernel.name);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), variant.kernel.source, "{file}");
    }
    // Each kernel has its file, and each operation its twin.
    let files = |folder: &str| -> BTreeSet<String> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    let (recorded, twins) = (files("src/kernels"), files("src/reference"));
    for name in kernels {
        let operation = PARTS.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        let operation = FORMS.iter().find_map(|form| operation.strip_prefix(form)).unwrap_or(operation);
        assert!(
            recorded.contains(operation) && twins.contains(operation),
            "{name}: src/kernels, src/reference"
        );
    }
}

#[test]
fn entry_points_match_their_file_and_the_portable_limits() {
    let limits = wgpu::Limits::default();
    for variant in kernels::registry() {
        let label = variant.label();
        let (module, _) = parse(&variant);
        let [entry] = &module.entry_points[..] else { panic!("{label}: number of entry points") };
        assert_eq!(entry.name, variant.kernel.name);
        let invocations: u32 = entry.workgroup_size.iter().product();
        assert!(
            invocations <= limits.max_compute_invocations_per_workgroup,
            "{label}: {invocations} threads"
        );
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let workgroup_bytes: u32 = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
            .map(|(_, variable)| layouter[variable.ty].size.next_multiple_of(16))
            .sum();
        assert!(
            workgroup_bytes <= limits.max_compute_workgroup_storage_size,
            "{label}: {workgroup_bytes} bytes"
        );
        // Only the phases of decode attention and the lanes that share a fused norm
        // synchronize; no other per-thread kernel waits.
        let fused = variant.fragments.iter().any(|fragment| fragment.name == "input_norm_per_thread");
        if variant.strategy == Strategy::PerThread && entry.name != "attention_decode_per_thread" && !fused {
            assert_eq!(workgroup_bytes, 0, "{label}: per-thread kernels use no workgroup memory");
        }
    }
}

#[test]
fn bindings_match_the_descriptor() {
    for variant in kernels::registry() {
        let label = variant.label();
        let (module, _) = parse(&variant);
        let mut found: Vec<Binding> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let binding = variable.binding?;
                assert_eq!(binding.group, 0, "{label}");
                let kind = match variable.space {
                    AddressSpace::Uniform => BindingKind::Uniform,
                    AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                        BindingKind::ReadWrite
                    }
                    AddressSpace::Storage { .. } => BindingKind::Read,
                    other => panic!("{label}: {other:?}"),
                };
                let name = variable.name.clone().unwrap();
                Some(Binding { index: binding.binding, name: name.leak(), kind })
            })
            .collect();
        found.sort_by_key(|binding| binding.index);
        assert_eq!(found, variant.bindings(), "{label}");
        let storage = found.iter().filter(|binding| binding.kind != BindingKind::Uniform).count();
        assert!(storage <= wgpu::Limits::default().max_storage_buffers_per_shader_stage as usize, "{label}");
    }
}

#[test]
fn every_storage_binding_states_its_shape() {
    for folder in ["shaders", "shaders/common"] {
        for name in names_in(folder) {
            let file = format!("{folder}/{name}.wgsl");
            let text = std::fs::read_to_string(&file).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (i, line) in lines.iter().enumerate() {
                if line.contains("@binding") && line.contains("var<storage") {
                    assert!(i > 0 && lines[i - 1].starts_with("// ["), "{file}:{}: no shape above", i + 1);
                }
            }
            let twice = lines.windows(2).find(|pair| pair[0] == pair[1] && pair[0].starts_with("//"));
            assert!(twice.is_none(), "{file}: {twice:?}");
            assert!(lines[0].starts_with("// "), "{file}: a head that says what it computes");
        }
    }
}

/// Returns the fragments that a kernel's head lists after "Fragments in common/:", up to the
/// full stop. Slots are separated by commas, in the order of composition, and the
/// alternatives of a slot by `|`. `none` is a slot that stays empty.
fn fragments_in_head(kernel: &str) -> Vec<Vec<String>> {
    let file = format!("shaders/{kernel}.wgsl");
    let text = std::fs::read_to_string(&file).unwrap();
    let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//")).map(str::trim).collect();
    let head = head.join(" ");
    let mut lists = head.split("Fragments in common/: ").skip(1);
    let (Some(list), None) = (lists.next(), lists.next()) else {
        panic!("{file}: the head must have one list of fragments")
    };
    let (list, _) = list.split_once('.').unwrap_or_else(|| panic!("{file}: the list has no full stop"));
    list.split(", ").map(|slot| slot.split(" | ").map(str::to_owned).collect()).collect()
}

#[test]
fn heads_list_the_fragments_of_all_variants() {
    let registry = kernels::registry();
    let mut heads = BTreeMap::new();
    let mut used = BTreeSet::new();
    for variant in &registry {
        let (name, label) = (variant.kernel.name, variant.label());
        let slots = heads.entry(name).or_insert_with(|| fragments_in_head(name));
        let mut fragments = variant.fragments.iter().map(|fragment| fragment.name).peekable();
        for (i, slot) in slots.iter().enumerate() {
            let taken = fragments.next_if(|fragment| slot.iter().any(|listed| listed == fragment));
            let taken = taken.unwrap_or("none");
            assert!(
                slot.iter().any(|listed| listed == taken),
                "{label}: the head lists {slot:?}, the variant has {:?}",
                fragments.peek()
            );
            used.insert((name, i, taken));
        }
        assert_eq!(fragments.next(), None, "{label}: the head does not list this fragment here");
    }
    for (name, slots) in &heads {
        for (i, slot) in slots.iter().enumerate() {
            for listed in slot {
                assert!(used.contains(&(*name, i, listed.as_str())), "{name}: no variant has {listed}");
            }
        }
    }
}

/// Offsets of a struct's members by name, and its size.
type Layout = (Vec<(&'static str, usize)>, usize);

macro_rules! layout {
    ($name:literal, $ty:ty, [$($field:ident),* $(,)?]) => {
        ($name, (vec![$((stringify!($field), offset_of!($ty, $field))),*], size_of::<$ty>()))
    };
}

#[test]
fn parameters_have_the_layout_of_rust() {
    let layouts: BTreeMap<&str, Layout> = BTreeMap::from([
        layout!("Step", Step, [n_rows, first_row, position, kv_len]),
        layout!(
            "MatmulParams",
            MatmulParams,
            [
                n,
                k8,
                out_offset4,
                out_stride4,
                activation,
                has_bias,
                accumulate,
                norm_n,
                epsilon,
                tag,
                soft_cap,
                rotated4,
                head4
            ]
        ),
        layout!("NormParams", kernels::norm::NormParams, [n, stride4, epsilon, accumulate]),
        layout!("QkNormParams", kernels::qk_norm::QkNormParams, [n_head, n_normed, stride4, n, epsilon]),
        layout!(
            "EmbeddingParams",
            kernels::embedding::EmbeddingParams,
            [n_embd8, first_token, n_tokens, n_positions, scale]
        ),
        layout!("GatedParams", kernels::gated::GatedParams, [n4, activation]),
        layout!("KvAppendParams", kernels::kv_append::KvAppendParams, [n_head, n_kv_head, qkv_stride4, tag]),
        layout!(
            "AttentionParams",
            AttentionParams,
            [
                n_head,
                n_kv_head,
                group,
                qkv_stride4,
                out_stride4,
                scale,
                soft_cap,
                window,
                packs,
                max_splits,
                score_keys,
                score_items
            ]
        ),
        layout!(
            "ReduceParams",
            kernels::attention_reduce::ReduceParams,
            [n_head, max_splits, split_keys, window]
        ),
        layout!("ScoreParams", kernels::score::ScoreParams, [n, stride4, n_partials]),
        layout!("ArgmaxParams", kernels::argmax::ArgmaxParams, [n, stride]),
        layout!("Rows", kernels::Batch, [rows]),
        layout!("ProbeCopyParams", kernels::probe_copy::ProbeCopyParams, [n]),
        layout!("ProbeReadParams", kernels::probe_read::ProbeReadParams, [n]),
        layout!("ProbeFmaParams", kernels::probe_fma::ProbeFmaParams, [iterations, factor, offset]),
        layout!("ProbeStepParams", kernels::probe_step::ProbeStepParams, [increment]),
        layout!("SampleShape", kernels::sample::SampleShape, [n, n_chunks, n_slots]),
        layout!(
            "SampleParams",
            kernels::sample::SampleParams,
            [greedy, top_k, top_p, lsb, scale, n_stop_ids, min_weight, stop_ids]
        ),
    ]);
    let mut seen = BTreeSet::new();
    for variant in kernels::registry() {
        let (module, _) = parse(&variant);
        for (_, variable) in module.global_variables.iter() {
            if variable.space != AddressSpace::Uniform {
                continue;
            }
            let ty = &module.types[variable.ty];
            let TypeInner::Struct { members, span } = &ty.inner else { panic!("a uniform is a struct") };
            let name = ty.name.clone().unwrap();
            let (offsets, size) = &layouts[name.as_str()];
            let found: Vec<(&str, usize)> = members
                .iter()
                .map(|member| (member.name.as_deref().unwrap(), member.offset as usize))
                .filter(|(name, _)| !name.starts_with("unused"))
                .collect();
            assert_eq!(&found, offsets, "{name}");
            assert_eq!(*span as usize, *size, "{name}");
            seen.insert(name);
        }
    }
    assert_eq!(seen.len(), layouts.len(), "each struct occurs in a shader");
}

#[test]
fn activation_numbers_match_the_shader() {
    let text = std::fs::read_to_string("shaders/common/activation.wgsl").unwrap();
    for activation in kernels::Activation::ALL {
        let number = activation as u32;
        let has_case = text.contains(&format!("case {number}u: {{"));
        assert_eq!(has_case, activation != kernels::Activation::None, "{activation:?}");
    }
    let cases = text.matches("case ").count();
    assert_eq!(cases, kernels::Activation::ALL.len() - 1);
}

#[test]
fn every_constant_of_the_host_is_used() {
    // Constants that only some fragments of a family need.
    let shared = ["HEAD_DIM", "PAGE_SIZE", "KEYS"];
    for variant in kernels::registry() {
        let mut body: String = variant.fragments.iter().map(|fragment| fragment.source).collect();
        body.push_str(variant.kernel.source);
        for (name, _) in variant.constants.iter().filter(|(name, _)| !shared.contains(name)) {
            assert!(body.contains(name), "{}: {name} is not used", variant.label());
        }
    }
}

#[test]
fn every_variant_translates_for_every_backend() {
    for variant in kernels::registry() {
        let label = variant.label();
        let (module, info) = parse(&variant);
        // SPIR-V has subgroup operations since 1.3.
        let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        spv::write_vec(&module, &info, &options, None).unwrap_or_else(|e| panic!("{label}: SPIR-V: {e}"));

        let options = msl::Options { lang_version: (2, 4), ..msl::Options::default() };
        msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{label}: MSL: {e}"));

        if is_cooperative(&variant) {
            // naga has no HLSL for cooperative matrices, and wgpu offers them only on
            // Vulkan and Metal.
            continue;
        }
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_2,
            // The place where wgpu passes the number of workgroups.
            special_constants_binding: Some(hlsl::BindTarget { space: 1, ..hlsl::BindTarget::default() }),
            ..hlsl::Options::default()
        };
        let mut text = String::new();
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{label}: HLSL: {e}"));
    }
}

#[test]
fn tint_accepts_every_variant() {
    if Command::new("tint").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("tint (Dawn's compiler) is not on the PATH: not checked");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // 64-bit integers and cooperative matrices are naga extensions.
    let portable =
        kernels::registry().into_iter().filter(|variant| !is_wide(variant) && !is_cooperative(variant));
    for (i, variant) in portable.enumerate() {
        let enable = if uses_subgroups(&variant) { "enable subgroups;\n" } else { "" };
        let path = dir.path().join(format!("{i}.wgsl"));
        std::fs::write(&path, format!("{enable}{}", variant.wgsl())).unwrap();
        let result = Command::new("tint").args(["--format", "wgsl"]).arg(&path).output().unwrap();
        assert!(result.status.success(), "{}: {}", variant.label(), String::from_utf8_lossy(&result.stderr));
    }
}
