//! Delta debugging: the fewest of many things that still show something.

/// Removes what is not needed: of what it returns, no single item can be left out. `shows` is asked
/// whether a selection (the places of the items that are kept, ascending) still shows it; that all of
/// them do is taken for granted. After Zeller and Hildebrandt, "Simplifying and isolating
/// failure-inducing input" (2002), complements only.
pub(super) fn ddmin(items: usize, mut shows: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..items).collect();
    let mut parts = 2;
    while !kept.is_empty() {
        let size = kept.len().div_ceil(parts);
        let mut removed = false;
        let mut start = 0;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            let rest = [&kept[..start], &kept[end..]].concat();
            if shows(&rest) {
                kept = rest;
                removed = true;
            } else {
                start = end;
            }
        }
        if size == 1 && !removed {
            break;
        }
        if !removed {
            parts = (parts * 2).min(kept.len());
        } else {
            parts = parts.min(kept.len()).max(2);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_is_needed() {
        for needed in [&[][..], &[0], &[99], &[3, 50, 51, 98]] {
            let mut asked = 0;
            let kept = ddmin(100, |kept| {
                asked += 1;
                needed.iter().all(|item| kept.contains(item))
            });
            assert_eq!(kept, needed);
            assert!(asked < 250, "{asked} tries for {needed:?}");
        }
    }

    #[test]
    fn no_single_item_can_be_left_out() {
        // Any three of them do.
        let kept = ddmin(40, |kept| kept.len() >= 3);
        assert_eq!(kept.len(), 3);
        assert_eq!(ddmin(0, |_| true), []);
        assert_eq!(ddmin(1, |kept| !kept.is_empty()), [0]);
    }
}
