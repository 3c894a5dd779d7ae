//! The engine runs on the application's own device. Between two steps, a compute pass of
//! the application reads the model's logits directly on the GPU. Only eight bytes are read
//! back:
//! `cargo run --release --example host_device`.

use wgpt::{Engine, Error, GpuContext, GpuOutputs, OutputRows, wgpu};

/// The application's pass, which finds index and value of the largest logit.
const LARGEST: &str = "
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> largest: array<u32>; // [index, bits of the value]
override n: u32;
@compute @workgroup_size(1) fn find() {
    var best = 0u;
    for (var i = 1u; i < n; i++) {
        if logits[i] > logits[best] { best = i; }
    }
    largest[0] = best;
    largest[1] = bitcast<u32>(logits[best]);
}";

struct Host {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Host {
    /// Opens a device as an application would, with its own requirements and the engine's.
    fn open() -> Result<Host, Box<dyn std::error::Error>> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pollster::block_on(instance.request_adapter(&Default::default()))?;
        let mut descriptor = wgpu::DeviceDescriptor { label: Some("application"), ..Default::default() };
        wgpt::required(&adapter).add_to(&mut descriptor);
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
        Ok(Host { adapter, device, queue })
    }

    fn buffer(&self, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 8,
            usage,
            mapped_at_creation: false,
        })
    }

    fn pipeline(&self, vocab_size: usize) -> wgpu::ComputePipeline {
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("find"),
            source: wgpu::ShaderSource::Wgsl(LARGEST.into()),
        });
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("find"),
            layout: None,
            module: &module,
            entry_point: Some("find"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[("n", vocab_size as f64)],
                ..Default::default()
            },
            cache: None,
        })
    }

    /// Submits the pass after the step that wrote the logits.
    fn find(&self, pipeline: &wgpu::ComputePipeline, outputs: &GpuOutputs<'_>) -> wgpu::Buffer {
        use wgpu::BufferUsages as Usage;
        let result = self.buffer(Usage::STORAGE | Usage::COPY_SRC);
        let read = self.buffer(Usage::MAP_READ | Usage::COPY_DST);
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: outputs.logits().as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: result.as_entire_binding() },
            ],
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        encoder.copy_buffer_to_buffer(&result, 0, &read, 0, 8);
        self.queue.submit([encoder.finish()]);
        read
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Result<(u32, f32), Box<dyn std::error::Error>> {
        buffer.map_async(wgpu::MapMode::Read, .., |_| ());
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        let view = buffer.get_mapped_range(..)?;
        let words: &[u32] = bytemuck::cast_slice(&view);
        Ok((words[0], f32::from_bits(words[1])))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::open()?;
    let context = GpuContext::from_host(host.adapter.clone(), host.device.clone(), host.queue.clone());
    let signal = context.loss_signal();
    host.device
        .set_device_lost_callback(move |reason, message| signal.lost(format!("{reason:?}: {message}")));

    let engine = Engine::builder().gpu(context).build()?;
    let pipeline = host.pipeline(engine.vocab_size());
    let tokenizer = engine.tokenizer()?;
    let mut session = engine.session();
    let mut tokens = tokenizer.encode("Once upon a time")?;
    let mut text = tokens.clone();
    for _ in 0..24 {
        let mut read = None;
        session.advance_on_gpu(&tokens, OutputRows::Last, |outputs| {
            read = Some(host.find(&pipeline, outputs));
            Ok(())
        })?;
        let read = read.ok_or(Error::Cancelled)?;
        let (token, logit) = host.read(&read)?;
        println!("{token:5} {logit:7.3}");
        text.push(token);
        tokens = vec![token];
    }
    println!("{}", tokenizer.decode(&text, false)?);
    Ok(())
}
