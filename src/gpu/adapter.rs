//! Which adapters there are, and which one is taken.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use super::capabilities::{COOPERATIVE_FEATURES, COOPERATIVE_SUBGROUP, Capabilities, CooperativeSizes};
use super::{FaultInjector, Strategy};
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
    /// The name used on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

/// The kind of an adapter, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceType {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// The driver does not say.
    Other,
    /// Software.
    Cpu,
}

impl DeviceType {
    /// The name that reports print.
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

/// How a device is chosen and opened.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// An index of [`adapters`]' list or a part of a name (case ignored).
    pub device: Option<String>,
    /// Only adapters of this API.
    pub backend: Option<Backend>,
    /// Requests `wgpu::Limits::default()` and no feature at all.
    pub features_floor: bool,
    /// Compiles shaders with bounds checks and bounded loops: slower; a
    /// defence against a faulty kernel, used by tests.
    pub checked_shaders: bool,
    /// Overrides the choice of kernel variants that the adapter's type suggests.
    pub strategy: Option<Strategy>,
    /// Pretends that storage bindings are at most this large.
    pub max_binding_bytes: Option<u64>,
    /// Where compiled pipelines (Vulkan) and tuned choices of kernels are kept and
    /// looked for. Without it nothing is read or written: an application names a
    /// directory of its own, the command line takes the platform's.
    pub cache_dir: Option<PathBuf>,
    /// Makes calls into wgpu fail: for tests.
    pub faults: Option<FaultInjector>,
}

/// What an adapter is and offers.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterReport {
    /// Place in the list: what `--device` takes.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// The API.
    pub backend: Backend,
    /// The driver's name.
    pub driver: String,
    /// The driver's version, as the driver words it.
    pub driver_info: String,
    /// The adapter's kind.
    pub device_type: DeviceType,
    /// Whether shaders may compute in f16.
    pub shader_f16: bool,
    /// Whether shaders have subgroup operations.
    pub subgroups: bool,
    /// Smallest and largest subgroup.
    pub subgroup_size: (u32, u32),
    /// Whether GPU timestamps can be taken.
    pub timestamps: bool,
    /// Shapes of cooperative matrices as `MxNxK ab->cr`.
    pub cooperative_matrices: Vec<String>,
    /// Which of them kernels can use.
    #[serde(skip)]
    pub cooperative: CooperativeSizes,
    /// On DX12 the shader compiler and model, inferred from the features.
    pub shader_compiler: Option<String>,
    /// Largest storage binding in bytes.
    pub max_storage_binding_bytes: u64,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Largest workgroup in threads.
    pub max_workgroup_invocations: u32,
    /// Workgroup memory in bytes.
    pub max_workgroup_memory_bytes: u32,
    /// Storage buffers that one kernel may bind.
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

    /// Whether shaders are compiled by DXC, on DX12: what wgpu falls back to, FXC, has
    /// neither f16 nor wave operations.
    #[must_use]
    pub fn has_dxc(&self) -> bool {
        self.backend == Backend::Dx12 && (self.shader_f16 || self.subgroups)
    }

    /// Whether the adapter computes on the CPU.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.device_type == DeviceType::Cpu
    }
}

/// wgpu does not report the compiler in use; without `dxcompiler.dll` it falls
/// back to FXC, which has neither f16 nor wave operations.
fn dx12_compiler(dxc: bool) -> String {
    if dxc {
        "DXC, shader model 6.x".into()
    } else {
        "FXC, shader model 5.1 (put dxcompiler.dll beside the program for f16 and subgroups)".into()
    }
}

fn enumerate(backend: Option<Backend>) -> Vec<(wgpu::Adapter, AdapterReport)> {
    let backends =
        backend.map_or(wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12, Backend::flags);
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        // No debug info (validation layers of 2022 reject naga's), no
        // validation of indirect dispatches (none is used).
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
    // Stable: among equals the driver's order stays.
    list.sort_by_key(|(_, report)| report.device_type);
    for (index, (_, report)) in list.iter_mut().enumerate() {
        report.index = index;
    }
    list
}

/// All adapters, the preferred one first: discrete, integrated, virtual, CPU.
#[must_use]
pub fn adapters(backend: Option<Backend>) -> Vec<AdapterReport> {
    enumerate(backend).into_iter().map(|(_, report)| report).collect()
}

/// The error for a machine without an adapter: it says how to install one.
#[must_use]
pub fn no_adapter(backend: Option<Backend>) -> Error {
    let api = backend.map_or("Vulkan, Metal or DX12", Backend::name);
    Error::NoAdapter(format!("no {api} adapter was found.\n{INSTALL_HELP}"))
}

/// What a device would offer, known without opening one.
#[derive(Clone, Debug)]
pub struct DevicePreview {
    /// The adapter; `None` for [`DevicePreview::floor`].
    pub adapter: Option<AdapterReport>,
    /// What kernels can count on.
    pub capabilities: Capabilities,
    /// The largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// How it would be opened: where tuned choices lie.
    pub options: GpuOptions,
}

impl DevicePreview {
    /// The device that [`Gpu::open`](super::Gpu::open) would open.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] when no adapter fits.
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

    /// The least device there is: `wgpu::Limits::default()`, no feature.
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

/// The largest storage binding that `limits` and `options` permit.
pub(super) fn max_binding_bytes(limits: &wgpu::Limits, options: &GpuOptions) -> u64 {
    let device = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    options.max_binding_bytes.map_or(device, |cap| cap.min(device))
}

/// Takes the adapter that `options` names, or the first of the list.
pub(super) fn choose(options: &GpuOptions) -> Result<(wgpu::Adapter, AdapterReport)> {
    let mut list = enumerate(options.backend);
    let names: Vec<_> =
        list.iter().map(|(_, r)| format!("  {}: {} ({})", r.index, r.name, r.backend)).collect();
    if list.is_empty() {
        return Err(no_adapter(options.backend));
    }
    let Some(wanted) = &options.device else { return Ok(list.swap_remove(0)) };
    // "4090" is a part of a name where there are not that many adapters.
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

/// The commands that install a driver.
const INSTALL_HELP: &str = "\
On Linux a Vulkan driver comes with your GPU's driver packages; a software driver runs on any machine:
  Debian, Ubuntu:  sudo apt install mesa-vulkan-drivers libvulkan1
  Fedora:          sudo dnf install mesa-vulkan-drivers vulkan-loader
  Arch:            sudo pacman -S vulkan-swrast vulkan-icd-loader";

/// Features that some kernel or report uses where the adapter has them.
pub(super) const USEFUL_FEATURES: wgpu::Features = wgpu::Features::SUBGROUP
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SHADER_INT64)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(COOPERATIVE_FEATURES);

/// Features and limits that the device is asked for.
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

/// The family of kernel variants that suits an adapter.
pub(super) fn default_strategy(report: &AdapterReport, features: wgpu::Features) -> Strategy {
    if report.is_software() {
        Strategy::PerThread
    } else if features.contains(wgpu::Features::SUBGROUP) {
        Strategy::Subgroup
    } else {
        Strategy::Workgroup
    }
}
