/// The exclusive or of the packs of four `x` whose numbers `packs` says; numbers
/// beyond the end do not count.
#[must_use]
pub fn probe_read(x: &[[u32; 4]], packs: impl Iterator<Item = usize>) -> [u32; 4] {
    let mut folded = [0; 4];
    for pack in packs.filter_map(|pack| x.get(pack)) {
        for (folded, word) in folded.iter_mut().zip(pack) {
            *folded ^= word;
        }
    }
    folded
}
