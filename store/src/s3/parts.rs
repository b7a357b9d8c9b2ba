//! How large the parts of an upload are: pure arithmetic on S3's limits.
//!
//! S3 takes 5 MiB to 5 GiB in a part, 10,000 parts and 5 TiB in an object. Parts start small, so that small objects and
//! many streams need little memory, and double now and then, so that 5 TiB fit when no length was announced. A part is
//! held in memory until it is stored: an object of 5 GiB needs no more than a small one, the largest of all 1 GiB.

/// The largest object.
pub(super) const LARGEST_OBJECT: u64 = 5 << 40;
/// The smallest part, and the largest object stored by a single request.
pub(super) const SMALLEST: usize = 8 << 20;
/// Largest part; what S3 takes is more than anybody should buffer.
const LARGEST: usize = 1 << 30;
pub(super) const MOST_PARTS: u64 = 10_000;
const DOUBLE_EVERY: u32 = 640;
const MIB: u64 = 1 << 20;

/// Bytes of part `number` (from 1) of an object that is expected to have `hint` bytes; the first parts have `smallest`,
/// usually [`SMALLEST`].
pub(super) fn part_bytes(number: u32, hint: Option<u64>, smallest: usize) -> usize {
    let doublings = (number.saturating_sub(1) / DOUBLE_EVERY).min(7);
    let grown = smallest << doublings;
    // A tenth more than needed, because a hint may be a little short.
    let needed = hint.unwrap_or(0).div_ceil(MOST_PARTS * 9 / 10).next_multiple_of(MIB);
    grown.max(usize::try_from(needed).unwrap_or(LARGEST)).min(LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIB: u64 = 1 << 40;

    fn part_bytes(number: u32, hint: Option<u64>) -> usize {
        super::part_bytes(number, hint, SMALLEST)
    }

    #[test]
    fn large_objects_fit_without_a_hint() {
        let all: u64 = (1..=MOST_PARTS as u32).map(|number| part_bytes(number, None) as u64).sum();
        assert!(all >= LARGEST_OBJECT, "{all}");
        let first_5_gib: u64 = (1..=640).map(|number| part_bytes(number, None) as u64).sum();
        assert_eq!(first_5_gib, 5 << 30);
        assert_eq!(part_bytes(1, None), SMALLEST);
    }

    #[test]
    fn on_a_small_scale_parts_double_at_the_same_numbers() {
        let sizes = [1, 640, 641, 1_281].map(|number| super::part_bytes(number, None, 8 << 10));
        assert_eq!(sizes, [8 << 10, 8 << 10, 16 << 10, 32 << 10]);
    }

    #[test]
    fn a_hint_sizes_the_parts_from_the_start() {
        assert_eq!(part_bytes(1, Some(100 << 20)), SMALLEST);
        let first = part_bytes(1, Some(TIB));
        assert!(first as u64 * MOST_PARTS >= TIB && first < 200 << 20, "{first}");
        assert_eq!(part_bytes(1, Some(u64::MAX)), LARGEST);
        let all: u64 = (1..=MOST_PARTS as u32).map(|number| part_bytes(number, Some(LARGEST_OBJECT)) as u64).sum();
        assert!(all >= LARGEST_OBJECT && part_bytes(1, Some(LARGEST_OBJECT)) < 600 << 20, "{all}");
    }
}
