//! Places the labels of dots so that none covers another.

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub left: i32,
    pub top: i32,
    pub width: i32,
    pub height: i32,
}

impl Rect {
    /// Returns a square around a point.
    pub fn around((x, y): (i32, i32), radius: i32) -> Self {
        Rect { left: x - radius, top: y - radius, width: 2 * radius, height: 2 * radius }
    }

    pub fn centre(&self) -> (i32, i32) {
        (self.left + self.width / 2, self.top + self.height / 2)
    }

    fn overlaps(&self, other: &Rect) -> bool {
        self.left < other.left + other.width
            && other.left < self.left + self.width
            && self.top < other.top + other.height
            && other.top < self.top + self.height
    }

    fn holds(&self, other: &Rect) -> bool {
        self.left <= other.left
            && self.top <= other.top
            && other.left + other.width <= self.left + self.width
            && other.top + other.height <= self.top + self.height
    }
}

/// Distances from a dot to try, in pixels. Labels that are farther away need a line to the
/// dot.
const DISTANCES: [i32; 14] = [0, 6, 14, 24, 36, 50, 66, 84, 104, 128, 156, 188, 224, 264];
/// A label at this distance or farther, in pixels, needs a line to its dot.
pub const LEADER_FROM: i32 = 14;
/// Number of directions to try at each distance.
const DIRECTIONS: usize = 16;

/// Places a label for each dot of `dots`, with its width and height in `sizes`. It takes
/// the nearest place within `bounds` that covers no obstacle, dot or earlier label.
/// Returns the label and its distance from the dot, or `None` if there is no such place.
pub fn place(
    dots: &[(i32, i32)],
    sizes: &[(i32, i32)],
    radius: i32,
    obstacles: &[Rect],
    bounds: Rect,
) -> Vec<Option<(Rect, i32)>> {
    let mut taken: Vec<Rect> = obstacles.to_vec();
    taken.extend(dots.iter().map(|&dot| Rect::around(dot, radius)));
    let mut placed = Vec::with_capacity(dots.len());
    for (&dot, &size) in dots.iter().zip(sizes) {
        let found = DISTANCES.iter().find_map(|&distance| {
            (0..DIRECTIONS)
                .map(|step| (label_near(dot, size, radius + 2 + distance, step), distance))
                .find(|(label, _)| bounds.holds(label) && !taken.iter().any(|other| other.overlaps(label)))
        });
        taken.extend(found.map(|(label, _)| label));
        placed.push(found);
    }
    placed
}

/// Returns the label whose nearest edge is `away` pixels from the dot, in the direction
/// number `step`; the first one is to the right.
fn label_near((x, y): (i32, i32), (width, height): (i32, i32), away: i32, step: usize) -> Rect {
    // Right, left, then ever steeper; upwards before downwards.
    let turn = std::f64::consts::TAU / DIRECTIONS as f64;
    let order = [0, 8, 1, 15, 7, 9, 2, 14, 6, 10, 3, 13, 5, 11, 4, 12];
    let angle = f64::from(order[step % DIRECTIONS]) * turn;
    let reach = |size: i32| f64::from(size) / 2.0 + f64::from(away);
    let centre_x = f64::from(x) + angle.cos() * reach(width);
    let centre_y = f64::from(y) - angle.sin() * reach(height);
    Rect {
        left: (centre_x - f64::from(width) / 2.0).round() as i32,
        top: (centre_y - f64::from(height) / 2.0).round() as i32,
        width,
        height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Rect = Rect { left: 0, top: 0, width: 600, height: 400 };

    #[test]
    fn labels_of_crowded_dots_do_not_overlap() {
        // 60 dots within 40 by 40 pixels.
        let dots: Vec<_> = (0..60).map(|i| (280 + i * 7 % 40, 180 + i * 11 % 40)).collect();
        let placed = place(&dots, &vec![(18, 11); dots.len()], 4, &[], BOUNDS);
        let labels: Vec<Rect> = placed.iter().map(|found| found.unwrap().0).collect();
        for (i, label) in labels.iter().enumerate() {
            assert!(BOUNDS.holds(label), "{label:?}");
            assert!(labels[..i].iter().all(|other| !other.overlaps(label)), "{i}");
            assert!(dots.iter().all(|&dot| !Rect::around(dot, 4).overlaps(label)), "{i}");
        }
    }

    #[test]
    fn an_isolated_label_is_to_the_right_of_its_dot() {
        let placed = place(&[(100, 100)], &[(20, 10)], 4, &[], BOUNDS);
        assert_eq!(placed, [Some((Rect { left: 106, top: 95, width: 20, height: 10 }, 0))]);
        // At the right edge, the label is to the left of its dot.
        let placed = place(&[(590, 100)], &[(20, 10)], 4, &[], BOUNDS);
        assert_eq!(placed[0].unwrap().0.left, 564);
        let all = [BOUNDS];
        assert_eq!(place(&[(100, 100)], &[(20, 10)], 4, &all, BOUNDS), [None]);
    }
}
