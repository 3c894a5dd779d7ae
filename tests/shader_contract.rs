//! What each shader promises to the host, checked on every composed variant
//! without a device.

use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};
use wgpt::gpu::{Binding, BindingKind, Strategy, Variant};
use wgpt::kernels::{self, Step};

/// The portable limits of a device (`wgpu::Limits::default()`).
const STORAGE_BUFFERS_MAX: usize = 8;
const INVOCATIONS_MAX: u32 = 256;
const WORKGROUP_BYTES_MAX: u32 = 16_384;

fn parse(variant: &Variant) -> Module {
    let text = variant.wgsl();
    naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{}:\n{}", variant.label(), e.emit_to_string(&text)))
}

/// Validates with what the variant may use: subgroups where its strategy says so.
fn validate(variant: &Variant, module: &Module) -> ModuleInfo {
    // unpack2x16float is core WGSL; old OpenGL alone lacks it.
    let core = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let capabilities = match variant.strategy {
        Strategy::Subgroup => core | Capabilities::SUBGROUP,
        Strategy::PerThread | Strategy::Workgroup => core,
    };
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(module)
        .unwrap_or_else(|e| panic!("{}: {}", variant.label(), e.emit_to_string(&variant.wgsl())))
}

fn for_each(mut check: impl FnMut(&Variant, &Module)) {
    let variants = kernels::registry();
    assert!(!variants.is_empty());
    for variant in &variants {
        check(variant, &parse(variant));
    }
}

#[test]
fn one_entry_point_named_like_the_file() {
    for_each(|variant, module| {
        let label = variant.label();
        assert_eq!(module.entry_points.len(), 1, "{label}: entry points");
        assert_eq!(module.entry_points[0].name, variant.kernel.name, "{label}: entry point");
        let path = format!("shaders/{}.wgsl", variant.kernel.name);
        let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{label}: {path}: {e}"));
        assert_eq!(file, variant.kernel.source, "{label}: {path} is another text");
        for fragment in &variant.fragments {
            let path = format!("shaders/common/{}.wgsl", fragment.name);
            let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{label}: {path}: {e}"));
            assert_eq!(file, fragment.source, "{label}: {path} is another text");
        }
    });
}

#[test]
fn every_shader_file_is_in_the_registry() {
    let variants = kernels::registry();
    let kernels: BTreeSet<&str> = variants.iter().map(|variant| variant.kernel.name).collect();
    let fragments: BTreeSet<&str> =
        variants.iter().flat_map(|variant| &variant.fragments).map(|fragment| fragment.name).collect();
    for (folder, known) in [("shaders", kernels), ("shaders/common", fragments)] {
        let files: BTreeSet<String> = wgsl_files(folder);
        let files: BTreeSet<&str> = files.iter().map(String::as_str).collect();
        assert_eq!(files, known, "{folder}: files and registry");
    }
}

/// Names of the shaders in a folder, without `.wgsl`.
fn wgsl_files(folder: &str) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            assert_eq!(path.extension().and_then(|e| e.to_str()), Some("wgsl"), "{}", path.display());
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        })
        .collect()
}

/// Bindings as the shader declares them.
fn declared(module: &Module) -> Vec<(u32, String, BindingKind)> {
    let mut all: Vec<_> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| {
            let binding = variable.binding.as_ref()?;
            assert_eq!(binding.group, 0, "{:?}: bind group", variable.name);
            let kind = match variable.space {
                AddressSpace::Uniform => BindingKind::Uniform,
                AddressSpace::Storage { access } if access == StorageAccess::LOAD => BindingKind::Read,
                AddressSpace::Storage { .. } => BindingKind::ReadWrite,
                space => panic!("{:?}: address space {space:?}", variable.name),
            };
            Some((binding.binding, variable.name.clone().unwrap_or_default(), kind))
        })
        .collect();
    all.sort_by_key(|(index, ..)| *index);
    all
}

#[test]
fn bindings_equal_the_descriptor_and_stay_within_the_floor() {
    for_each(|variant, module| {
        let described: Vec<_> = variant
            .bindings()
            .into_iter()
            .map(|Binding { index, name, kind }| (index, name.to_owned(), kind))
            .collect();
        assert_eq!(declared(module), described, "{}", variant.label());
        let storage = described.iter().filter(|(.., kind)| *kind != BindingKind::Uniform).count();
        assert!(storage <= STORAGE_BUFFERS_MAX, "{}: {storage} storage buffers", variant.label());
    });
}

#[test]
fn workgroups_stay_within_the_floor() {
    for_each(|variant, module| {
        let label = variant.label();
        let [x, y, z] = module.entry_points[0].workgroup_size;
        assert!(x * y * z <= INVOCATIONS_MAX, "{label}: {x} x {y} x {z} threads");
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let bytes: u32 = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
            // As the limit counts: each variable rounded up to 16 bytes.
            .map(|(_, variable)| layouter[variable.ty].size.next_multiple_of(16))
            .sum();
        assert!(bytes <= WORKGROUP_BYTES_MAX, "{label}: {bytes} bytes of workgroup memory");
        // What the host counts on as the size of a group is the group's size.
        if let Some((_, size)) = variant.constants.iter().find(|(name, _)| *name == "WORKGROUP_SIZE") {
            assert_eq!([x, y, z], [*size, 1, 1], "{label}: workgroup size");
        }
    });
}

/// Every constant that the host states is used: none is left over in Rust.
#[test]
fn constants_of_the_host_are_used() {
    for_each(|variant, _| {
        let body: String = variant.fragments.iter().map(|f| f.source).collect();
        let body = body + variant.kernel.source;
        // Constants that only some fragments of a family need.
        let shared = ["HEAD_DIM", "PAGE_SIZE", "KEYS"];
        for (name, _) in variant.constants.iter().filter(|(name, _)| !shared.contains(name)) {
            assert!(body.contains(name), "{}: {name} is not used", variant.label());
        }
    });
}

/// Name, size and members (name, offset) of a Rust struct.
struct Layout {
    name: &'static str,
    size: usize,
    members: Vec<(&'static str, usize)>,
}

macro_rules! layout {
    ($name:ident, [$($field:ident),*]) => {
        Layout {
            name: stringify!($name),
            size: size_of::<$name>(),
            members: vec![$((stringify!($field), offset_of!($name, $field))),*],
        }
    };
}

/// The uniform structs, without their padding.
fn layouts() -> Vec<Layout> {
    use kernels::argmax::ArgmaxParams;
    use kernels::attention_reduce::ReduceParams;
    use kernels::embedding::EmbeddingParams;
    use kernels::kv_append::KvAppendParams;
    use kernels::layer_norm::LayerNormParams;
    use kernels::{AttentionParams, MatmulParams};
    vec![
        layout!(Step, [n_rows, first_row, position, kv_len]),
        layout!(MatmulParams, [n, k8, out_offset4, out_stride4, activation, has_bias, accumulate]),
        layout!(LayerNormParams, [n, stride4, epsilon]),
        layout!(EmbeddingParams, [n_embd8, first_token, n_tokens]),
        layout!(KvAppendParams, [n_head, qkv_stride4]),
        layout!(
            AttentionParams,
            [n_head, qkv_stride4, out_stride4, scale, max_splits, packs, score_keys, score_rows]
        ),
        layout!(ReduceParams, [n_head, max_splits, split_keys]),
        layout!(ArgmaxParams, [n]),
    ]
}

#[test]
fn uniform_structs_equal_their_rust_twins() {
    let layouts = layouts();
    let mut seen = BTreeSet::new();
    for_each(|variant, module| {
        let label = variant.label();
        for (_, variable) in module.global_variables.iter() {
            if variable.space != AddressSpace::Uniform {
                continue;
            }
            let ty = &module.types[variable.ty];
            let name = ty.name.as_deref().unwrap_or_default();
            let TypeInner::Struct { members, span } = &ty.inner else {
                panic!("{label}: {name} is no struct")
            };
            let layout = layouts
                .iter()
                .find(|layout| layout.name == name)
                .unwrap_or_else(|| panic!("{label}: {name} has no Rust twin in this test"));
            seen.insert(layout.name);
            assert_eq!(*span as usize, layout.size, "{label}: size of {name}");
            let found: Vec<(&str, usize)> = members
                .iter()
                .map(|member| (member.name.as_deref().unwrap_or_default(), member.offset as usize))
                .filter(|(name, _)| !name.starts_with("unused"))
                .collect();
            assert_eq!(found, layout.members, "{label}: members of {name}");
        }
    });
    assert_eq!(seen.len(), layouts.len(), "a Rust twin without a shader: {seen:?}");
}

#[test]
fn storage_bindings_carry_their_shapes() {
    for folder in ["shaders", "shaders/common"] {
        for name in wgsl_files(folder) {
            let path = format!("{folder}/{name}.wgsl");
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("var<storage")) {
                let above = lines[..i].iter().rev().take_while(|line| line.starts_with("//"));
                assert!(
                    above.into_iter().any(|line| line.starts_with("// [")),
                    "{path}:{}: no `// [shape]` above {line}",
                    i + 1
                );
            }
        }
    }
}

#[test]
fn variants_translate_to_every_backend() {
    for_each(|variant, module| {
        let label = variant.label();
        let info = validate(variant, module);
        let spirv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
        naga::back::spv::write_vec(module, &info, &spirv, None)
            .unwrap_or_else(|e| panic!("{label}: SPIR-V: {e}"));

        let msl = naga::back::msl::Options { lang_version: (2, 4), ..Default::default() };
        let pipeline = naga::back::msl::PipelineOptions::default();
        naga::back::msl::write_string(module, &info, &msl, &pipeline)
            .unwrap_or_else(|e| panic!("{label}: MSL: {e}"));

        let hlsl = naga::back::hlsl::Options {
            shader_model: naga::back::hlsl::ShaderModel::V6_2,
            ..Default::default()
        };
        let mut text = String::new();
        naga::back::hlsl::Writer::new(&mut text, &hlsl, &Default::default())
            .write(module, &info, None)
            .unwrap_or_else(|e| panic!("{label}: HLSL: {e}"));
    });
}

/// The Dawn compiler, whose uniformity analysis is stricter than naga's.
#[test]
fn tint_accepts_every_variant() {
    if Command::new("tint").arg("--help").output().is_err() {
        println!("skipped: tint is not on the PATH");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("variant.wgsl");
    for_each(|variant, _| {
        let prefix = if variant.strategy == Strategy::Subgroup { "enable subgroups;\n" } else { "" };
        std::fs::write(&path, format!("{prefix}{}", variant.wgsl())).unwrap();
        let found = tint(&path);
        assert!(found.is_empty(), "{}: tint:\n{found}", variant.label());
    });
}

/// What tint says of a file; nothing where it accepts it.
fn tint(path: &Path) -> String {
    let output = Command::new("tint").args(["--format", "wgsl"]).arg(path).output().unwrap();
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}
