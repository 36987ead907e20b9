//! Spreads the slots of a job over the task managers. Pure.
//!
//! Slot k of a job runs subtask k of every vertex, so a job needs as many slots as its largest parallelism.

use weir_proto::v1;

/// Free slots of one task manager, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeSlots {
    /// Task manager.
    pub task_manager_id: String,
    /// Indices of its free slots.
    pub slots: Vec<u32>,
}

/// Too few slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs {needed} slots, {free} are free")]
pub struct Shortage {
    /// What the job needs.
    pub needed: usize,
    /// What there is.
    pub free: usize,
}

/// Picks `needed` slots: each time one of the task manager with most free slots left (the first by id among equals), so that the load
/// is even and as many machines as possible take part. The result is grouped by task manager: neighbouring subtasks stay in one process.
pub fn place(free: &[FreeSlots], needed: usize) -> Result<Vec<(String, u32)>, Shortage> {
    let total = free.iter().map(|member| member.slots.len()).sum();
    if total < needed {
        return Err(Shortage {
            needed,
            free: total,
        });
    }
    let mut taken = vec![0usize; free.len()];
    for _ in 0..needed {
        let best = (0..free.len()).max_by_key(|&at| {
            let left = free[at].slots.len() - taken[at];
            (left, std::cmp::Reverse(at))
        });
        if let Some(best) = best {
            taken[best] += 1;
        }
    }
    let mut places = Vec::with_capacity(needed);
    for (member, count) in free.iter().zip(taken) {
        places.extend(
            member
                .slots
                .iter()
                .take(count)
                .map(|slot| (member.task_manager_id.clone(), *slot)),
        );
    }
    Ok(places)
}

/// Orders places by subtask: a subtask whose former machine is among them gets a place there again, where copies of its state may be.
/// After a change of parallelism nothing is as it was, and the order stays.
pub fn keep_home(mut places: Vec<v1::SlotPlace>, former: &[v1::SlotPlace]) -> Vec<v1::SlotPlace> {
    if former.len() != places.len() {
        return places;
    }
    let homes: Vec<Option<v1::SlotPlace>> = former
        .iter()
        .map(|old| {
            let at_home = |place: &v1::SlotPlace| place.address == old.address;
            Some(places.remove(places.iter().position(at_home)?))
        })
        .collect();
    let mut rest = places.into_iter();
    homes
        .into_iter()
        .filter_map(|home| home.or_else(|| rest.next()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(addresses: &[&str]) -> Vec<v1::SlotPlace> {
        addresses
            .iter()
            .map(|address| v1::SlotPlace {
                task_manager_id: format!("id of {address}"),
                address: (*address).to_owned(),
                slot: 0,
            })
            .collect()
    }

    #[test]
    fn subtasks_stay_where_they_were() {
        for (places, former, expected) in [
            (&["a", "b", "c"], &["c", "a", "b"][..], &["c", "a", "b"]),
            (&["a", "b", "b"], &["a", "x", "b"], &["a", "b", "b"]),
            (&["a", "b", "c"], &["b", "b", "b"], &["b", "a", "c"]),
            (&["a", "b", "c"], &["c", "b"], &["a", "b", "c"]),
            (&["a", "b", "c"], &[], &["a", "b", "c"]),
        ] {
            assert_eq!(keep_home(slots(places), &slots(former)), slots(expected));
        }
    }

    fn free(members: &[(&str, &[u32])]) -> Vec<FreeSlots> {
        members
            .iter()
            .map(|(id, slots)| FreeSlots {
                task_manager_id: (*id).to_owned(),
                slots: slots.to_vec(),
            })
            .collect()
    }

    fn placed(members: &[(&str, &[u32])], needed: usize) -> Vec<String> {
        place(&free(members), needed)
            .unwrap()
            .into_iter()
            .map(|(id, slot)| format!("{id}{slot}"))
            .collect()
    }

    #[test]
    fn slots_are_spread_evenly() {
        for (members, needed, expected) in [
            (
                &[("a", &[0u32, 1][..]), ("b", &[0, 1])][..],
                2,
                &["a0", "b0"][..],
            ),
            (&[("a", &[0, 1]), ("b", &[0, 1])], 3, &["a0", "a1", "b0"]),
            (&[("a", &[1]), ("b", &[0, 2, 3])], 2, &["b0", "b2"]),
            (
                &[("a", &[1]), ("b", &[0, 2, 3])],
                4,
                &["a1", "b0", "b2", "b3"],
            ),
            (&[("a", &[0])], 0, &[]),
        ] {
            assert_eq!(placed(members, needed), expected);
        }
    }

    #[test]
    fn a_shortage_says_what_is_needed_and_what_is_there() {
        let error = place(&free(&[("a", &[0]), ("b", &[3])]), 4).unwrap_err();
        assert_eq!(error.to_string(), "needs 4 slots, 2 are free");
    }
}
