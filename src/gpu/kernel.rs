//! A kernel's source, its variants and their compilation.

use std::fmt::Write as _;

use super::unchecked;

/// The way a kernel divides its work. A device has one strategy, and a kernel has one
/// variant per strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// No workgroup memory and no barriers: each thread computes its own outputs. It is
    /// for software adapters, where a barrier costs more than the arithmetic.
    PerThread,
    /// Reductions through workgroup memory, which every GPU supports.
    Workgroup,
    /// Reductions by subgroup operations.
    Subgroup,
}

impl Strategy {
    /// Returns the name used in labels and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Strategy::PerThread => "per_thread",
            Strategy::Workgroup => "workgroup",
            Strategy::Subgroup => "subgroup",
        }
    }
}

/// The address space and access mode of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingKind {
    /// `var<uniform>`
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// One binding of group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `@binding(index)`
    pub index: u32,
    /// The variable's name in the shader.
    pub name: &'static str,
    /// Address space and access.
    pub kind: BindingKind,
}

impl Binding {
    /// Returns a uniform binding.
    #[must_use]
    pub const fn uniform(index: u32, name: &'static str) -> Self {
        Binding { index, name, kind: BindingKind::Uniform }
    }

    /// Returns a read-only storage binding.
    #[must_use]
    pub const fn read(index: u32, name: &'static str) -> Self {
        Binding { index, name, kind: BindingKind::Read }
    }

    /// Returns a writable storage binding.
    #[must_use]
    pub const fn read_write(index: u32, name: &'static str) -> Self {
        Binding { index, name, kind: BindingKind::ReadWrite }
    }
}

/// WGSL without an entry point. It precedes a kernel's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// File name under `shaders/common/`, without `.wgsl`.
    pub name: &'static str,
    /// The WGSL text.
    pub source: &'static str,
    /// Bindings that the fragment declares.
    pub bindings: &'static [Binding],
    /// Language extensions that the fragment needs, as named in `enable`.
    pub enables: &'static [&'static str],
}

/// A shader file with one entry point, which has the file's name.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// File name under `shaders/`, without `.wgsl`; also the entry point.
    pub name: &'static str,
    /// The WGSL text.
    pub source: &'static str,
    /// Bindings that the file declares.
    pub bindings: &'static [Binding],
}

/// A kernel with the constants and fragments that precede it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// The way it divides its work.
    pub strategy: Strategy,
    /// Fragments that precede the kernel, in order.
    pub fragments: Vec<Fragment>,
    /// `const NAME: u32 = value;` lines that precede the fragments.
    pub constants: Vec<(&'static str, u32)>,
}

impl Variant {
    /// Returns a name that identifies the variant: kernel, strategy, fragments,
    /// constants.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = format!("{}[{}", self.kernel.name, self.strategy.name());
        for fragment in &self.fragments {
            let _ = write!(label, ",{}", fragment.name);
        }
        for (name, value) in &self.constants {
            let _ = write!(label, ",{name}={value}");
        }
        label.push(']');
        label
    }

    /// Returns the language extensions that the fragments need.
    pub fn enables(&self) -> impl Iterator<Item = &'static str> {
        self.fragments.iter().flat_map(|fragment| fragment.enables).copied()
    }

    /// Returns the whole WGSL text: extensions, constants, fragments, kernel.
    #[must_use]
    pub fn wgsl(&self) -> String {
        let mut text = String::new();
        for extension in self.enables() {
            let _ = writeln!(text, "enable {extension};");
        }
        for (name, value) in &self.constants {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        for fragment in &self.fragments {
            text.push_str(fragment.source);
        }
        text.push_str(self.kernel.source);
        text
    }

    /// Returns all bindings, in ascending order of index.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let mut all: Vec<Binding> = self.kernel.bindings.to_vec();
        all.extend(self.fragments.iter().flat_map(|fragment| fragment.bindings));
        all.sort_by_key(|binding| binding.index);
        all
    }
}

/// A compiled variant.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) raw: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) label: String,
}

impl Pipeline {
    pub(super) fn compile(
        device: &wgpu::Device,
        variant: &Variant,
        checked: bool,
        cache: Option<&wgpu::PipelineCache>,
    ) -> Self {
        let label = variant.label();
        let bindings = variant.bindings();
        let entries: Vec<_> = bindings.iter().map(layout_entry).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let source = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(variant.wgsl().into()),
        };
        let module = if checked {
            device.create_shader_module(source)
        } else {
            unchecked::unchecked_module(device, source)
        };
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(variant.kernel.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // wgpt's kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: checked,
            },
            cache,
        });
        Pipeline { raw, layout, bindings, label }
    }
}

fn layout_entry(binding: &Binding) -> wgpu::BindGroupLayoutEntry {
    let ty = match binding.kind {
        BindingKind::Uniform => wgpu::BufferBindingType::Uniform,
        BindingKind::Read => wgpu::BufferBindingType::Storage { read_only: true },
        BindingKind::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding: binding.index,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
