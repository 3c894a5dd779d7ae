//! Checkpoints: reading allocates nothing, and no damaged header takes memory. Reading
//! uses only the caller's thread, which is what these tests count.

use std::fs;

use safetensors::tensor::Dtype;
use wgpt::Error;
use wgpt::internals::checkpoint::Checkpoint;

use crate::support::parts::{Random, f32_part, half_part, model_error, open_bytes, raw, serialized};
use crate::{MIB, alone, thread_allocations, thread_peak_bytes};

#[test]
fn reading_allocates_nothing() {
    let _alone = alone();
    let mut random = Random(3);
    let bytes = serialized(&[f32_part("w", &[300, 2000], &mut random)]);
    let checkpoint = open_bytes(&bytes).unwrap();
    let tensor = checkpoint.get("w").unwrap();
    let mut reader = checkpoint.reader();
    let mut out = vec![0.0; 300 * 2000];
    let before = thread_allocations();
    reader.read_block(tensor, 0..300, 0..2000, &mut out).unwrap();
    reader.read_block(tensor, 0..300, 0..1900, &mut out[..300 * 1900]).unwrap();
    reader.read_block(tensor, 5..300, 7..15, &mut out[..295 * 8]).unwrap();
    assert_eq!(thread_allocations(), before);
}

#[test]
fn random_damage_causes_no_panic_and_takes_no_memory() {
    let _alone = alone();
    let mut random = Random(5);
    let good = serialized(&[
        f32_part("h.0.ln_1.weight", &[16], &mut random),
        half_part("h.0.mlp.weight", Dtype::F16, &[16, 9], &mut random),
        ("mask", Dtype::U8, vec![1, 1, 4, 4], vec![1; 16]),
    ]);
    let header_bytes = good.len() - 16 * 4 - 16 * 9 * 2 - 16;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..6000 {
        let mut bytes = good.clone();
        match round % 4 {
            0 => bytes.truncate(random.below(good.len())),
            1 => bytes[random.below(header_bytes)] ^= 1 << random.below(8),
            2 => bytes[random.below(header_bytes)] = b"0123456789[]{},:\"-.eF\\"[random.below(22)],
            _ => {
                for _ in 0..1 + random.below(8) {
                    bytes[random.below(good.len())] = random.next() as u8;
                }
            }
        }
        fs::write(&path, &bytes).unwrap();
        let (result, peak) = thread_peak_bytes(|| {
            let checkpoint = Checkpoint::open_file(&path)?;
            let mut reader = checkpoint.reader();
            for tensor in checkpoint.tensors() {
                assert!(tensor.len_bytes() <= bytes.len() as u64);
                let (rows, cols) = match tensor.shape[..] {
                    [cols] => (1, cols),
                    [rows, cols] => (rows, cols),
                    _ => continue,
                };
                if tensor.dtype.size_bytes().is_some() {
                    reader.read_block(tensor, 0..rows, 0..cols, &mut vec![0.0; rows * cols])?;
                }
            }
            wgpt::Result::Ok(())
        });
        assert!(peak < 2 * MIB, "round {round}: {peak} bytes");
        match result {
            Ok(()) => accepted += 1,
            Err(Error::Model { .. }) => refused += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
    }
    // Both happen often: damage in data or names goes unnoticed, other damage does not.
    assert!(accepted > 500 && refused > 3000, "{accepted} accepted, {refused} refused");
}

#[test]
fn the_largest_header_stays_within_64_mib() {
    let _alone = alone();
    let mut header = String::from("{");
    let n_tensors = 1 << 17;
    for i in 0..n_tensors {
        let comma = if i == 0 { "" } else { "," };
        header.push_str(&format!(
            r#"{comma}"{i:0>192}":{{"dtype":"F16","shape":[1,1,0,1,1],"data_offsets":[0,0]}}"#
        ));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, raw(&(header.clone() + "}"), 0)).unwrap();
    let (checkpoint, peak) = thread_peak_bytes(|| Checkpoint::open_file(&path));
    assert_eq!(checkpoint.unwrap().tensors().len(), n_tensors);
    assert!(peak < 64 * MIB, "{peak} bytes");

    header.push_str(r#","one more":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}}"#);
    fs::write(&path, raw(&header, 0)).unwrap();
    assert!(model_error(Checkpoint::open_file(&path)).contains("more than 131072 tensors"));
}
