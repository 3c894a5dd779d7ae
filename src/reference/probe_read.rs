/// Returns the exclusive or of the packs of `x` whose indices are in `packs`, four words
/// per pack. Indices beyond the end are ignored.
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
