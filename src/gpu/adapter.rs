//! The list of adapters, and the selection of one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use super::Strategy;
use super::capabilities::{COOPERATIVE_FEATURES, COOPERATIVE_SUBGROUP, Capabilities, CooperativeSizes};
use crate::error::{Error, Result};

/// A graphics API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Vulkan: Linux, Windows, Android.
    Vulkan,
    /// Metal: macOS, iOS.
    Metal,
    /// Direct3D 12: Windows.
    Dx12,
}

impl Backend {
    /// Returns the name used on the command line and in reports.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Backend::Vulkan => "vulkan",
            Backend::Metal => "metal",
            Backend::Dx12 => "dx12",
        }
    }

    fn flags(self) -> wgpu::Backends {
        match self {
            Backend::Vulkan => wgpu::Backends::VULKAN,
            Backend::Metal => wgpu::Backends::METAL,
            Backend::Dx12 => wgpu::Backends::DX12,
        }
    }

    pub(super) fn from_wgpu(backend: wgpu::Backend) -> Option<Self> {
        match backend {
            wgpu::Backend::Vulkan => Some(Backend::Vulkan),
            wgpu::Backend::Metal => Some(Backend::Metal),
            wgpu::Backend::Dx12 => Some(Backend::Dx12),
            _ => None,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Backend::Vulkan, Backend::Metal, Backend::Dx12]
            .into_iter()
            .find(|backend| backend.name() == s)
            .ok_or_else(|| Error::Input(format!("backend {s:?}: expected vulkan, metal or dx12")))
    }
}

/// The kind of an adapter, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceType {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// The driver does not report the kind.
    Other,
    /// A software adapter.
    Cpu,
}

impl DeviceType {
    /// Returns the name used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DeviceType::Discrete => "discrete",
            DeviceType::Integrated => "integrated",
            DeviceType::Virtual => "virtual",
            DeviceType::Cpu => "cpu",
            DeviceType::Other => "other",
        }
    }
}

/// The options for selecting and opening a device.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// An index into the list of [`adapters`], or part of an adapter's name (case
    /// ignored).
    pub device: Option<String>,
    /// Restricts the selection to adapters of this API.
    pub backend: Option<Backend>,
    /// Requests `wgpu::Limits::default()` and no features.
    pub features_floor: bool,
    /// Compiles shaders with bounds checks and bounded loops. This is slower, but guards
    /// against a faulty kernel. Tests use it.
    pub checked_shaders: bool,
    /// Overrides the strategy that the adapter's type suggests.
    pub strategy: Option<Strategy>,
    /// Caps the size of storage bindings, in bytes, as if the device supported no more.
    pub max_binding_bytes: Option<u64>,
    /// The directory that caches compiled pipelines (Vulkan) and tuned kernel choices.
    /// With `None`, nothing is read or written. The command line uses the platform's
    /// cache directory; an application must set its own.
    pub cache_dir: Option<PathBuf>,
}

/// An adapter and the features and limits that it offers.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterReport {
    /// Index in the list of adapters, as `--device` accepts it.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// The API.
    pub backend: Backend,
    /// The driver's name.
    pub driver: String,
    /// The driver's version, in the driver's own format.
    pub driver_info: String,
    /// The adapter's kind.
    pub device_type: DeviceType,
    /// Whether shaders may compute in f16.
    pub shader_f16: bool,
    /// Whether shaders have subgroup operations.
    pub subgroups: bool,
    /// Smallest and largest subgroup size, in threads.
    pub subgroup_size: (u32, u32),
    /// Whether GPU timestamps can be taken.
    pub timestamps: bool,
    /// Shapes of the cooperative matrices, as `MxNxK ab->cr`.
    pub cooperative_matrices: Vec<String>,
    /// The cooperative matrices that kernels can use.
    #[serde(skip)]
    pub cooperative: CooperativeSizes,
    /// The shader compiler and shader model on DX12, inferred from the features.
    pub shader_compiler: Option<String>,
    /// Size of the largest storage binding in bytes.
    pub max_storage_binding_bytes: u64,
    /// Size of the largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Maximum number of threads per workgroup.
    pub max_workgroup_invocations: u32,
    /// Workgroup memory in bytes.
    pub max_workgroup_memory_bytes: u32,
    /// Maximum number of storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
}

impl AdapterReport {
    pub(super) fn new(adapter: &wgpu::Adapter, backend: Backend) -> Self {
        let info = adapter.get_info();
        let features = adapter.features();
        let limits = adapter.limits();
        let matrices = adapter.cooperative_matrix_properties();
        let mut report = AdapterReport {
            index: 0,
            name: info.name,
            backend,
            driver: info.driver,
            driver_info: info.driver_info,
            device_type: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceType::Discrete,
                wgpu::DeviceType::IntegratedGpu => DeviceType::Integrated,
                wgpu::DeviceType::VirtualGpu => DeviceType::Virtual,
                wgpu::DeviceType::Cpu => DeviceType::Cpu,
                wgpu::DeviceType::Other => DeviceType::Other,
            },
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            subgroup_size: (info.subgroup_min_size, info.subgroup_max_size),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            cooperative_matrices: matrices
                .iter()
                .map(|m| format!("{}x{}x{} {:?}->{:?}", m.m_size, m.n_size, m.k_size, m.ab_type, m.cr_type))
                .collect(),
            cooperative: CooperativeSizes::new(&matrices),
            shader_compiler: None,
            max_storage_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            max_workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        };
        report.shader_compiler = (backend == Backend::Dx12).then(|| dx12_compiler(report.has_dxc()));
        report
    }

    /// Returns whether DXC compiles the shaders; true only on DX12. Without DXC, wgpu
    /// falls back to FXC, which has neither f16 nor wave operations.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn has_dxc(&self) -> bool {
        self.backend == Backend::Dx12 && (self.shader_f16 || self.subgroups)
    }

    /// Returns whether the adapter computes on the CPU.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.device_type == DeviceType::Cpu
    }
}

/// Returns the name of the DX12 shader compiler. wgpu does not report it. Without
/// `dxcompiler.dll`, wgpu falls back to FXC, which has neither f16 nor wave operations.
fn dx12_compiler(dxc: bool) -> String {
    if dxc {
        "DXC, shader model 6.x".into()
    } else {
        "FXC, shader model 5.1 (put dxcompiler.dll next to the program for f16 and subgroups)".into()
    }
}

fn enumerate(backend: Option<Backend>) -> Vec<(wgpu::Adapter, AdapterReport)> {
    let backends =
        backend.map_or(wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12, Backend::flags);
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        // No debug info, because validation layers of 2022 reject naga's. No validation
        // of indirect dispatches, because wgpt uses none.
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut list: Vec<_> = pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .filter_map(|adapter| {
            let backend = Backend::from_wgpu(adapter.get_info().backend)?;
            let report = AdapterReport::new(&adapter, backend);
            Some((adapter, report))
        })
        .collect();
    // The sort is stable: adapters of the same type keep the driver's order.
    list.sort_by_key(|(_, report)| report.device_type);
    for (index, (_, report)) in list.iter_mut().enumerate() {
        report.index = index;
    }
    list
}

/// Lists all adapters in order of preference: discrete, integrated, virtual, other, CPU.
#[must_use]
pub fn adapters(backend: Option<Backend>) -> Vec<AdapterReport> {
    enumerate(backend).into_iter().map(|(_, report)| report).collect()
}

/// Returns the error for a machine without an adapter. It explains how to install a
/// driver.
#[must_use]
pub fn no_adapter(backend: Option<Backend>) -> Error {
    let api = backend.map_or("Vulkan, Metal or DX12", Backend::name);
    Error::NoAdapter(format!("no {api} adapter was found.\n{INSTALL_HELP}"))
}

/// The capabilities that a device would have, determined without opening it.
#[derive(Clone, Debug)]
pub struct DevicePreview {
    /// The adapter; `None` for [`DevicePreview::floor`].
    pub(crate) adapter: Option<AdapterReport>,
    /// The capabilities that kernels can rely on.
    pub(crate) capabilities: Capabilities,
    /// Size of the largest storage binding in bytes.
    pub(crate) max_binding_bytes: u64,
    /// The options for opening it. They also locate the tuned kernel choices.
    pub(crate) options: GpuOptions,
}

impl DevicePreview {
    /// The adapter; `None` for [`DevicePreview::floor`].
    #[must_use]
    pub fn adapter(&self) -> Option<&AdapterReport> {
        self.adapter.as_ref()
    }

    /// The capabilities that kernels can rely on.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Size of the largest storage binding in bytes.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn max_binding_bytes(&self) -> u64 {
        self.max_binding_bytes
    }

    /// Previews the device that [`Gpu::open`](super::Gpu::open) would open.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if no adapter fits.
    pub fn of(options: &GpuOptions) -> Result<Self> {
        let (adapter, report) = choose(options)?;
        let (features, limits) = request(&adapter, options);
        Ok(Self::new(report, features, &limits, options))
    }

    pub(super) fn new(
        report: AdapterReport,
        features: wgpu::Features,
        limits: &wgpu::Limits,
        options: &GpuOptions,
    ) -> Self {
        let strategy = options.strategy.unwrap_or(default_strategy(&report, features));
        DevicePreview {
            capabilities: Capabilities::new(strategy, features, report.cooperative, report.subgroup_size.0),
            max_binding_bytes: max_binding_bytes(limits, options),
            adapter: Some(report),
            options: options.clone(),
        }
    }

    /// Previews the least capable device: `wgpu::Limits::default()` and no features.
    #[must_use]
    pub fn floor(options: &GpuOptions) -> Self {
        DevicePreview {
            adapter: None,
            capabilities: Capabilities::new(
                options.strategy.unwrap_or(Strategy::Workgroup),
                wgpu::Features::empty(),
                CooperativeSizes::default(),
                0,
            ),
            max_binding_bytes: max_binding_bytes(&wgpu::Limits::default(), options),
            options: options.clone(),
        }
    }
}

/// Returns the size of the largest storage binding that `limits` and `options` allow.
pub(super) fn max_binding_bytes(limits: &wgpu::Limits, options: &GpuOptions) -> u64 {
    let device = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    options.max_binding_bytes.map_or(device, |cap| cap.min(device))
}

/// Selects the adapter that `options` names, or the first of the list.
pub(super) fn choose(options: &GpuOptions) -> Result<(wgpu::Adapter, AdapterReport)> {
    let mut list = enumerate(options.backend);
    let names: Vec<_> =
        list.iter().map(|(_, r)| format!("  {}: {} ({})", r.index, r.name, r.backend)).collect();
    if list.is_empty() {
        return Err(no_adapter(options.backend));
    }
    let Some(wanted) = &options.device else { return Ok(list.swap_remove(0)) };
    // A number beyond the list, such as "4090", is matched against the names instead.
    let by_index = wanted.parse::<usize>().ok().filter(|&index| index < list.len());
    let by_name = || {
        let wanted = wanted.to_lowercase();
        list.iter().position(|(_, report)| report.name.to_lowercase().contains(&wanted))
    };
    let found = by_index.or_else(by_name);
    match found {
        Some(index) => Ok(list.swap_remove(index)),
        None => Err(Error::NoAdapter(format!(
            "device {wanted:?} matches no adapter; there are:\n{}",
            names.join("\n")
        ))),
    }
}

/// The commands that install a Vulkan driver.
const INSTALL_HELP: &str = "\
On Linux a Vulkan driver comes with your GPU's driver packages; a software driver runs on any machine:
  Debian, Ubuntu:  sudo apt install mesa-vulkan-drivers libvulkan1
  Fedora:          sudo dnf install mesa-vulkan-drivers vulkan-loader
  Arch:            sudo pacman -S vulkan-swrast vulkan-icd-loader";

/// Features that some kernel or report uses if the adapter has them.
pub(super) const USEFUL_FEATURES: wgpu::Features = wgpu::Features::SUBGROUP
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SHADER_INT64)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(COOPERATIVE_FEATURES);

/// Returns the features and limits to request for the device.
pub(super) fn request(adapter: &wgpu::Adapter, options: &GpuOptions) -> (wgpu::Features, wgpu::Limits) {
    if options.features_floor {
        return (wgpu::Features::empty(), wgpu::Limits::default());
    }
    let mut useful = USEFUL_FEATURES;
    if options.cache_dir.is_some() {
        useful |= wgpu::Features::PIPELINE_CACHE;
    }
    let mut features = adapter.features() & useful;
    if adapter.get_info().subgroup_max_size < COOPERATIVE_SUBGROUP {
        features.remove(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    }
    (features, adapter.limits())
}

/// Returns the strategy that suits an adapter.
pub(super) fn default_strategy(report: &AdapterReport, features: wgpu::Features) -> Strategy {
    if report.is_software() {
        Strategy::PerThread
    } else if features.contains(wgpu::Features::SUBGROUP) {
        Strategy::Subgroup
    } else {
        Strategy::Workgroup
    }
}
