//! The task managers that the leader knows: their leases, their slots, what they run. Pure; it starts empty with each leader.

use std::collections::{BTreeMap, BTreeSet};

use weir_proto::v1;

use crate::scheduler::place::{FreeSlots, Shortage, keep_home, place};

/// In doubt about so many silent task managers at least, and about a part of so many of all.
const MANY_SILENT: usize = 3;
const MANY_OF: usize = 10;
/// A doubtful lease lasts so many times as long.
const DOUBTFUL_LEASES: i64 = 3;

/// One registered task manager.
#[derive(Debug, Clone)]
pub struct Member {
    /// HOST:PORT of its services.
    pub address: String,
    /// Number of slots.
    pub slots: u32,
    /// When it was last heard of, by the clock of the leases.
    pub heard_ms: i64,
    /// When it was last heard of, by the wall clock.
    pub heard_wall_ms: i64,
    /// What it said it runs.
    pub running: Vec<v1::RunningAttempt>,
    /// It wants to leave: it gets no work, and what it has moves to others.
    pub draining: bool,
}

/// How many slots a job wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// It cannot run with fewer.
    pub least: usize,
    /// It has no use for more.
    pub most: usize,
}

impl Wanted {
    /// So many, no more and no fewer.
    pub fn exactly(count: usize) -> Self {
        Self {
            least: count,
            most: count,
        }
    }
}

/// What there is for one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Slots that it may have: free ones and those that it holds. None of a task manager that drains.
    pub open_slots: usize,
    /// Task managers that want to leave.
    pub draining: BTreeSet<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Members {
    members: BTreeMap<String, Member>,
    /// (task manager, slot) → job. A slot can be held before its task manager has registered with this leader.
    held: BTreeMap<(String, u32), String>,
    /// Could not be reached, and have not been heard of since: they get no work, although their lease still runs.
    unreachable: BTreeSet<String>,
    /// When many were silent at once.
    doubted_ms: Option<i64>,
    /// Counts the changes of what there is for jobs.
    version: u64,
}

impl Members {
    /// Takes a registration. Gives those that are lost by it: the former process at the same address.
    pub fn register(
        &mut self,
        request: &v1::RegisterTaskManagerRequest,
        now_ms: i64,
        wall_ms: i64,
    ) -> Vec<String> {
        let replaced: Vec<String> = self
            .members
            .iter()
            .filter(|(id, member)| {
                member.address == request.address && **id != request.task_manager_id
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &replaced {
            self.remove(id);
        }
        let member = Member {
            address: request.address.clone(),
            slots: request.slots,
            heard_ms: now_ms,
            heard_wall_ms: wall_ms,
            running: request.running.clone(),
            draining: request.draining,
        };
        self.version += 1;
        self.members.insert(request.task_manager_id.clone(), member);
        replaced
    }

    /// Takes a heartbeat; false if the task manager has to register again.
    pub fn heartbeat(&mut self, request: &v1::HeartbeatRequest, now_ms: i64, wall_ms: i64) -> bool {
        let Some(member) = self.members.get_mut(&request.task_manager_id) else {
            return false;
        };
        member.heard_ms = now_ms;
        member.heard_wall_ms = wall_ms;
        member.running = request.running.clone();
        let began_to_drain = request.draining && !member.draining;
        member.draining |= request.draining;
        let reached = self.unreachable.remove(&request.task_manager_id);
        if began_to_drain || reached {
            self.version += 1;
        }
        true
    }

    /// Its process is gone; false if it was not registered.
    pub fn remove(&mut self, task_manager_id: &str) -> bool {
        self.unreachable.remove(task_manager_id);
        self.version += 1;
        self.members.remove(task_manager_id).is_some()
    }

    /// Removes those that were silent for longer than `timeout_ms`; in doubt, and so long after it, for longer than some times that.
    pub fn expire(&mut self, now_ms: i64, timeout_ms: i64) -> Vec<String> {
        if self.in_doubt(now_ms, timeout_ms) {
            self.doubted_ms = Some(now_ms);
        }
        // When most are heard again, the others are about to be.
        let doubtful = |doubted_ms| now_ms - doubted_ms <= timeout_ms;
        let lease_ms = match self.doubted_ms.is_some_and(doubtful) {
            true => timeout_ms * DOUBTFUL_LEASES,
            false => timeout_ms,
        };
        let lost: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| now_ms - member.heard_ms > lease_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &lost {
            self.remove(id);
        }
        lost
    }

    /// Many have been silent for half of their lease: rather than that they all died at the same time, this leader or the network before it
    /// does not keep up. A restart of all jobs would be yet more work for it. Processes that end are noticed in another way.
    pub fn in_doubt(&self, now_ms: i64, timeout_ms: i64) -> bool {
        let silent = self
            .members
            .values()
            .filter(|member| now_ms - member.heard_ms > timeout_ms / 2)
            .count();
        silent >= MANY_SILENT.max(self.members.len() / MANY_OF)
    }

    /// A call to it failed. Its process may be dead long before its lease ends.
    pub fn not_reached(&mut self, task_manager_id: &str) {
        if self.knows(task_manager_id) {
            self.unreachable.insert(task_manager_id.to_owned());
            self.version += 1;
        }
    }

    /// This process did not run for a while and could hear nobody: all leases start anew.
    pub fn renew_all(&mut self, now_ms: i64) {
        for member in self.members.values_mut() {
            member.heard_ms = now_ms;
        }
    }

    /// Whether it is registered.
    pub fn knows(&self, task_manager_id: &str) -> bool {
        self.members.contains_key(task_manager_id)
    }

    /// Whether it wants to leave.
    pub fn is_draining(&self, task_manager_id: &str) -> bool {
        self.members
            .get(task_manager_id)
            .is_some_and(|member| member.draining)
    }

    /// Where it is, if it is registered.
    pub fn address_of(&self, task_manager_id: &str) -> Option<String> {
        self.members
            .get(task_manager_id)
            .map(|member| member.address.clone())
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// Number of its slots that no job holds.
    pub fn free_slots(&self, task_manager_id: &str) -> u32 {
        let slots = self
            .members
            .get(task_manager_id)
            .map_or(0, |member| member.slots);
        let free = (0..slots).filter(|slot| self.is_free(task_manager_id, *slot));
        u32::try_from(free.count()).unwrap_or(u32::MAX)
    }

    /// Another number than before: what there is for jobs may be different.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether subtasks may be placed there.
    fn takes_work(&self, task_manager_id: &str, member: &Member) -> bool {
        !member.draining && !self.unreachable.contains(task_manager_id)
    }

    /// What there is for a job.
    pub fn open_to(&self, job_id: &str) -> Resources {
        let taking = |(id, member): &(&String, &Member)| self.takes_work(id, member);
        let all: usize = self
            .members
            .iter()
            .filter(taking)
            .map(|(_, member)| member.slots as usize)
            .sum();
        let others = self.held.iter().filter(|((id, slot), holder)| {
            let member = self.members.get(id).filter(|m| self.takes_work(id, m));
            *holder != job_id && member.is_some_and(|member| *slot < member.slots)
        });
        Resources {
            open_slots: all.saturating_sub(others.count()),
            draining: self
                .members
                .iter()
                .filter(|(_, member)| member.draining)
                .map(|(id, _)| id.clone())
                .collect(),
        }
    }

    /// The jobs that hold slots of a task manager.
    pub fn holders(&self, task_manager_id: &str) -> BTreeSet<String> {
        let slots = (task_manager_id.to_owned(), 0)..=(task_manager_id.to_owned(), u32::MAX);
        self.held.range(slots).map(|(_, job)| job.clone()).collect()
    }

    fn is_free(&self, task_manager_id: &str, slot: u32) -> bool {
        !self.held.contains_key(&(task_manager_id.to_owned(), slot))
    }

    /// Gives a job as many slots as it wants and there are; it holds them until they are released. `former`: where its subtasks were before.
    pub fn allocate(
        &mut self,
        job_id: &str,
        wanted: Wanted,
        former: &[v1::SlotPlace],
    ) -> Result<Vec<v1::SlotPlace>, Shortage> {
        let places = self.places(wanted, former, |id, slot| self.is_free(id, slot))?;
        self.hold(job_id, &places);
        Ok(places)
    }

    /// The slots that a job would get if it gave its own back before.
    pub fn plan(
        &self,
        job_id: &str,
        wanted: Wanted,
        former: &[v1::SlotPlace],
    ) -> Result<Vec<v1::SlotPlace>, Shortage> {
        self.places(wanted, former, |id, slot| {
            let holder = self.held.get(&(id.to_owned(), slot));
            holder.is_none_or(|holder| holder == job_id)
        })
    }

    fn places(
        &self,
        wanted: Wanted,
        former: &[v1::SlotPlace],
        is_free: impl Fn(&str, u32) -> bool,
    ) -> Result<Vec<v1::SlotPlace>, Shortage> {
        let free: Vec<FreeSlots> = self
            .members
            .iter()
            .filter(|(id, member)| self.takes_work(id, member))
            .map(|(id, member)| FreeSlots {
                task_manager_id: id.clone(),
                slots: (0..member.slots)
                    .filter(|slot| is_free(id, *slot))
                    .collect(),
            })
            .collect();
        let there: usize = free.iter().map(|member| member.slots.len()).sum();
        let count = there.min(wanted.most).max(wanted.least);
        let places: Vec<v1::SlotPlace> = place(&free, count)?
            .into_iter()
            .map(|(task_manager_id, slot)| v1::SlotPlace {
                address: self
                    .members
                    .get(&task_manager_id)
                    .map(|member| member.address.clone())
                    .unwrap_or_default(),
                task_manager_id,
                slot,
            })
            .collect();
        Ok(keep_home(places, former))
    }

    /// The job has these slots already (from an earlier leader).
    pub fn hold(&mut self, job_id: &str, places: &[v1::SlotPlace]) {
        self.version += 1;
        for place in places {
            self.held.insert(
                (place.task_manager_id.clone(), place.slot),
                job_id.to_owned(),
            );
        }
    }

    /// The job holds no slot any more.
    pub fn release(&mut self, job_id: &str) {
        self.version += 1;
        self.held.retain(|_, holder| holder != job_id);
    }

    /// What the task managers said about the subtasks of an attempt: (task manager, status).
    pub fn subtasks(&self, job_id: &str, attempt: u64) -> Vec<(String, v1::SubtaskStatus)> {
        let mut found = Vec::new();
        for (id, member) in &self.members {
            for running in &member.running {
                if running.job_id == job_id && running.attempt == attempt {
                    found.extend(running.subtasks.iter().map(|s| (id.clone(), *s)));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(
        members: &mut Members,
        id: &str,
        address: &str,
        slots: u32,
        now_ms: i64,
    ) -> Vec<String> {
        let request = v1::RegisterTaskManagerRequest {
            task_manager_id: id.to_owned(),
            address: address.to_owned(),
            slots,
            ..Default::default()
        };
        members.register(&request, now_ms, now_ms)
    }

    fn heartbeat(members: &mut Members, id: &str, now_ms: i64) -> bool {
        let request = v1::HeartbeatRequest {
            task_manager_id: id.to_owned(),
            ..Default::default()
        };
        members.heartbeat(&request, now_ms, now_ms)
    }

    #[test]
    fn the_silent_are_lost_and_must_register_again() {
        let mut members = Members::default();
        register(&mut members, "a", "h:1", 2, 0);
        register(&mut members, "b", "h:2", 2, 0);
        assert!(heartbeat(&mut members, "b", 900));
        assert_eq!(members.expire(1000, 1000), Vec::<String>::new());
        assert_eq!(members.expire(1001, 1000), ["a"]);
        assert!(!heartbeat(&mut members, "a", 1002));
        members.renew_all(5000);
        assert!(members.expire(5001, 1000).is_empty());
    }

    #[test]
    fn who_hears_many_too_late_doubts_itself_and_loses_nobody() {
        let cluster = |count: usize, silent: usize| {
            let mut members = Members::default();
            for number in 0..count {
                register(
                    &mut members,
                    &format!("{number:03}"),
                    &format!("h:{number}"),
                    1,
                    0,
                );
            }
            for number in silent..count {
                heartbeat(&mut members, &format!("{number:03}"), 2900);
            }
            members
        };
        // One, or a few of many, are lost when their lease ends.
        for (count, silent) in [(1, 1), (3, 2), (10, 2), (100, 9)] {
            let mut members = cluster(count, silent);
            assert_eq!(members.expire(3000, 3000), Vec::<String>::new());
            assert_eq!(
                members.expire(3001, 3000).len(),
                silent,
                "{silent} of {count}"
            );
        }
        // The first leases of many end: those that come meanwhile are not lost, the others are later.
        let mut members = cluster(100, 10);
        assert!(members.in_doubt(3001, 3000));
        assert_eq!(members.expire(3001, 3000), Vec::<String>::new());
        for number in 1..100 {
            assert!(heartbeat(&mut members, &format!("{number:03}"), 5000));
        }
        assert!(!members.in_doubt(5001, 3000));
        assert_eq!(members.expire(6001, 3000), Vec::<String>::new());
        for number in 1..100 {
            heartbeat(&mut members, &format!("{number:03}"), 6001);
        }
        assert_eq!(members.expire(6002, 3000), ["000"]);
        let mut members = cluster(3, 3);
        assert_eq!(members.expire(9000, 3000), Vec::<String>::new());
        assert_eq!(members.expire(9001, 3000).len(), 3);
    }

    #[test]
    fn a_new_process_at_the_same_address_replaces_the_old_one() {
        let mut members = Members::default();
        register(&mut members, "a", "h:1", 2, 0);
        assert_eq!(register(&mut members, "a2", "h:1", 2, 1), ["a"]);
        assert!(register(&mut members, "a2", "h:1", 2, 2).is_empty());
        assert!(!members.knows("a"));
    }

    #[test]
    fn who_cannot_be_reached_gets_no_work_until_it_is_heard_of() {
        let mut members = Members::default();
        register(&mut members, "a", "h:1", 2, 0);
        members.not_reached("a");
        assert_eq!(
            members
                .allocate("j", Wanted::exactly(1), &[])
                .unwrap_err()
                .free,
            0
        );
        heartbeat(&mut members, "a", 10);
        assert!(members.allocate("j", Wanted::exactly(1), &[]).is_ok());
    }

    #[test]
    fn who_drains_gets_no_work_and_keeps_what_it_has_until_it_is_released() {
        let mut members = Members::default();
        register(&mut members, "a", "h:1", 2, 0);
        register(&mut members, "b", "h:2", 2, 0);
        members.allocate("j", Wanted::exactly(2), &[]).unwrap();
        assert_eq!(members.open_to("j").open_slots, 4);
        assert_eq!(members.open_to("other").open_slots, 2);
        let before = members.version();
        let leaves = v1::HeartbeatRequest {
            task_manager_id: "a".to_owned(),
            draining: true,
            ..Default::default()
        };
        members.heartbeat(&leaves, 1, 1);
        assert!(members.version() > before);
        let draining = BTreeSet::from(["a".to_owned()]);
        let open = |open_slots| Resources {
            open_slots,
            draining: draining.clone(),
        };
        assert_eq!(members.open_to("j"), open(2));
        assert_eq!(members.open_to("other"), open(1));
        assert_eq!(members.holders("a"), BTreeSet::from(["j".to_owned()]));
        members.release("j");
        assert!(members.holders("a").is_empty());
        let places = members.allocate("j", Wanted::exactly(2), &[]).unwrap();
        assert!(places.iter().all(|place| place.task_manager_id == "b"));
        assert_eq!(
            members
                .allocate("other", Wanted::exactly(1), &[])
                .unwrap_err()
                .free,
            0
        );
        // A heartbeat that was under way does not call it back.
        heartbeat(&mut members, "a", 2);
        assert_eq!(members.open_to("other"), open(0));
    }

    #[test]
    fn who_wants_a_range_gets_what_there_is() {
        let mut members = Members::default();
        register(&mut members, "a", "h:1", 3, 0);
        for (least, most, expected) in [(1, 2, Some(2)), (1, 8, Some(3)), (4, 8, None)] {
            let allocated = members.allocate("j", Wanted { least, most }, &[]);
            assert_eq!(allocated.ok().map(|places| places.len()), expected);
            members.release("j");
        }
    }

    #[test]
    fn what_a_job_would_get_is_what_it_then_gets() {
        let mut members = Members::default();
        register(&mut members, "a", "h:1", 2, 0);
        register(&mut members, "b", "h:2", 2, 0);
        members.allocate("other", Wanted::exactly(1), &[]).unwrap();
        let former = members.allocate("j", Wanted::exactly(2), &[]).unwrap();
        let planned = members.plan("j", Wanted::exactly(3), &former).unwrap();
        assert!(members.plan("j", Wanted::exactly(4), &former).is_err());
        assert_eq!(members.holders("a").len() + members.holders("b").len(), 3);
        members.release("j");
        let given = members.allocate("j", Wanted::exactly(3), &former).unwrap();
        assert_eq!(planned, given);
    }

    #[test]
    fn a_slot_has_one_holder() {
        let mut members = Members::default();
        register(&mut members, "a", "h:1", 2, 0);
        let places = members.allocate("j1", Wanted::exactly(1), &[]).unwrap();
        assert_eq!((places[0].address.as_str(), places[0].slot), ("h:1", 0));
        // Held by a job of the former leader, before its task manager is there.
        let other = v1::SlotPlace {
            task_manager_id: "b".to_owned(),
            address: "h:2".to_owned(),
            slot: 0,
        };
        members.hold("j2", std::slice::from_ref(&other));
        register(&mut members, "b", "h:2", 1, 0);
        assert_eq!(
            members
                .allocate("j3", Wanted::exactly(2), &[])
                .unwrap_err()
                .free,
            1
        );
        members.release("j2");
        assert_eq!(
            members
                .allocate("j3", Wanted::exactly(2), &[])
                .unwrap()
                .len(),
            2
        );
        assert_eq!(members.free_slots("a") + members.free_slots("b"), 0);
    }
}
