//! The device that the interface and the engine share.

use std::sync::{Arc, Mutex, PoisonError};

use eframe::egui_wgpu::{WgpuSetup, WgpuSetupExisting};
use eframe::wgpu;
use wgpt::GpuContext;
use wgpt::Gpu;

/// The APIs that the engine runs on.
const BACKENDS: wgpu::Backends =
    wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

/// The largest texture size that the interface needs: a window on an 8K display.
const TEXTURE_DIMENSION: u32 = 8192;

/// An entry in the list of adapters.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// The name used to select it.
    pub name: String,
    /// The API (Vulkan, Metal or DX12), and the driver with its version.
    pub driver: String,
}

/// An open device, and the list of all adapters.
#[derive(Clone)]
pub struct HostDevice {
    setup: WgpuSetupExisting,
    context: GpuContext,
    /// The adapter in use.
    pub info: AdapterInfo,
    /// Whether it is a software adapter, which computes on the CPU.
    pub software: bool,
    /// All adapters, the preferred one first.
    pub adapters: Vec<AdapterInfo>,
    /// A message if the requested adapter was not found.
    pub notice: Option<String>,
    faults: Faults,
}

impl HostDevice {
    /// Opens the adapter that `wanted` names, by part of its name or by its index. Without
    /// `wanted`, or if there is no such adapter, opens the preferred one: discrete before
    /// integrated before software.
    ///
    /// # Errors
    /// A message that says what to do, if there is no adapter or it cannot be opened.
    pub fn open(wanted: Option<&str>) -> Result<Self, String> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: BACKENDS,
            flags: wgpu::InstanceFlags::empty().with_env(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let mut found = pollster::block_on(instance.enumerate_adapters(BACKENDS));
        found.sort_by_key(|adapter| preference(adapter.get_info().device_type));
        let adapters: Vec<AdapterInfo> = found.iter().map(describe).collect();
        if found.is_empty() {
            return Err(wgpt::internals::gpu::no_adapter(None).to_string());
        }
        let by_name = |wanted: &str| {
            let lower = wanted.to_lowercase();
            let index = wanted.parse().ok().filter(|&index: &usize| index < found.len());
            index.or_else(|| adapters.iter().position(|adapter| adapter.name.to_lowercase().contains(&lower)))
        };
        let mut notice = None;
        let index = wanted.map_or(0, |wanted| {
            by_name(wanted).unwrap_or_else(|| {
                notice =
                    Some(format!("There is no adapter {wanted:?} any more: this is {}.", adapters[0].name));
                0
            })
        });
        let adapter = found.swap_remove(index);
        let info = adapters[index].clone();
        let (device, queue) = request(&adapter).map_err(|error| format!("{}: {error}", info.name))?;
        let context = GpuContext::from_host(adapter.clone(), device.clone(), queue.clone());
        let faults = Faults::default();
        // The default handler panics. Only the interface's errors arrive here, because the
        // engine catches the errors of its own calls.
        let sink = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let message = error.to_string();
            let surface = message.contains("Surface::configure");
            sink.put(if surface { Fault::Surface } else { Fault::Interface(message) });
        }));
        let (sink, loss) = (faults.clone(), context.loss_signal());
        device.set_device_lost_callback(move |reason, message| {
            let message = format!("device lost ({reason:?}) {message}");
            loss.lost(message.trim());
            sink.put(Fault::Lost(message.trim().to_owned()));
        });
        let software = adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let setup = WgpuSetupExisting { instance, adapter, device, queue };
        Ok(HostDevice { setup, context, info, software, adapters, notice, faults })
    }

    /// The device, for the interface.
    #[must_use]
    pub fn interface(&self) -> WgpuSetup {
        WgpuSetup::Existing(self.setup.clone())
    }

    /// The same device, for the engine.
    ///
    /// # Errors
    /// As [`Gpu::from_host`].
    pub fn engine(&self) -> wgpt::Result<Arc<Gpu>> {
        Ok(Arc::new(Gpu::from_host(self.context.clone())?))
    }

    /// Returns the most serious fault that the device reported outside the engine's calls
    /// since the last call. Call it before drawing: the interface's renderer panics on a
    /// lost device, and wgpu reports a loss only when polled.
    #[must_use]
    pub fn take_fault(&self) -> Option<Fault> {
        // A failed poll means a lost device, which the callback reports.
        let _ = self.setup.device.poll(wgpu::PollType::Poll);
        self.faults.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Destroys the device, like a driver reset.
    pub fn destroy(&self) {
        self.setup.device.destroy();
    }
}

/// A fault that the device reported outside the engine's calls. The most serious one is
/// last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The window's surface could not be configured: wgpu first waits for an idle queue,
    /// but the engine submitted work meanwhile.
    Surface,
    /// A call of the interface was rejected.
    Interface(String),
    /// The device is lost.
    Lost(String),
}

/// The most serious fault that was not taken yet.
#[derive(Clone, Debug, Default)]
struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    fn put(&self, fault: Fault) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|known| *known < fault) {
            *slot = Some(fault);
        }
    }
}

fn preference(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    AdapterInfo { name: info.name, driver: format!("{}, {} {}", info.backend, info.driver, info.driver_info) }
}

/// Opens a device with the features and limits that the engine and the interface need.
fn request(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let offered = adapter.limits().max_texture_dimension_2d;
    let mut descriptor = wgpu::DeviceDescriptor { label: Some("wgpt-desktop"), ..Default::default() };
    descriptor.required_limits.max_texture_dimension_2d = TEXTURE_DIMENSION.min(offered);
    wgpt::required(adapter).add_to(&mut descriptor);
    pollster::block_on(adapter.request_device(&descriptor))
}
