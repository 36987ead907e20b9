//! Spreads the slots of a job over the task managers. Pure.
//!
//! Slot k of a job runs subtask k of every vertex, so a job needs as many slots as its largest parallelism.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

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
    let mut left: BinaryHeap<(usize, Reverse<usize>)> = (0..)
        .zip(free)
        .map(|(at, member)| (member.slots.len(), Reverse(at)))
        .collect();
    for _ in 0..needed {
        if let Some(mut most) = left.peek_mut() {
            most.0 -= 1;
        }
    }
    let mut taken = vec![0usize; free.len()];
    for (left, Reverse(at)) in left {
        taken[at] = free[at].slots.len() - left;
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
pub fn keep_home(places: Vec<v1::SlotPlace>, former: &[v1::SlotPlace]) -> Vec<v1::SlotPlace> {
    if former.len() != places.len() {
        return places;
    }
    let mut at_home: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (index, place) in places.iter().enumerate() {
        at_home.entry(&place.address).or_default().push_back(index);
    }
    let homes: Vec<Option<usize>> = former
        .iter()
        .map(|old| at_home.get_mut(old.address.as_str())?.pop_front())
        .collect();
    let mut rest = at_home.into_values().flatten().collect::<Vec<_>>();
    rest.sort_unstable();
    let mut rest = rest.into_iter();
    let order: Vec<usize> = homes
        .into_iter()
        .filter_map(|home| home.or_else(|| rest.next()))
        .collect();
    let mut places: Vec<Option<v1::SlotPlace>> = places.into_iter().map(Some).collect();
    let mut take = |index: usize| places.get_mut(index).and_then(Option::take);
    order.into_iter().filter_map(&mut take).collect()
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
    fn thousands_of_slots_are_placed_in_no_time() {
        let members: Vec<FreeSlots> = (0..5000)
            .map(|id| FreeSlots {
                task_manager_id: format!("{id:05}"),
                slots: (0..10).collect(),
            })
            .collect();
        let started = std::time::Instant::now();
        let places: Vec<v1::SlotPlace> = place(&members, 50_000)
            .unwrap()
            .into_iter()
            .map(|(id, slot)| v1::SlotPlace {
                address: id.clone(),
                task_manager_id: id,
                slot,
            })
            .collect();
        let former: Vec<v1::SlotPlace> = places.iter().rev().cloned().collect();
        let kept = keep_home(places, &former);
        let addresses = |places: &[v1::SlotPlace]| -> Vec<String> {
            places.iter().map(|place| place.address.clone()).collect()
        };
        assert_eq!(addresses(&kept), addresses(&former));
        // A look at every task manager for each slot takes minutes.
        assert!(started.elapsed() < std::time::Duration::from_secs(10));
    }

    #[test]
    fn a_shortage_says_what_is_needed_and_what_is_there() {
        let error = place(&free(&[("a", &[0]), ("b", &[3])]), 4).unwrap_err();
        assert_eq!(error.to_string(), "needs 4 slots, 2 are free");
    }
}
