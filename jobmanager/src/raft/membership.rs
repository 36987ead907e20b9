//! Who the job managers are, and which change of that is safe. Pure.
//!
//! Members change one at a time, by entries of the log. A new member first receives the log as a learner and becomes a voter when it has
//! caught up. A member that has lost its data may have voted and acknowledged what it does not know any more: it is taken out and comes
//! back as a learner, under the number of its new data folder (its incarnation), and what is addressed to the old one is refused.

use std::collections::{BTreeMap, BTreeSet};

use raft::prelude::ConfChangeType;
use weir_proto::v1;
use weir_proto::v1::JobManagerRole as Role;

/// More are no help: every entry waits for most of them.
const MEMBERS_MAX: usize = 9;

/// Members by id, as the log has them.
pub type Members = BTreeMap<u64, v1::JobManagerMember>;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A user lets in the member with this data folder.
    Add(v1::JobManagerMember),
    /// A member without data asks to be let in again; or one has another address than the log says.
    Rejoin(v1::JobManagerMember),
    /// A learner that has caught up may vote.
    Promote(u64),
    /// A user takes one out.
    Remove(u64),
}

/// What the leader knows about its peers.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// This leader's id.
    pub own: u64,
    /// Heard of within the last seconds; the leader is among them.
    pub active: BTreeSet<u64>,
    /// Have the log but for its very end.
    pub caught_up: BTreeSet<u64>,
}

/// The entry that makes a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// For Raft.
    pub kind: ConfChangeType,
    /// What the log says about the member from then on.
    pub member: v1::JobManagerMember,
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It can't be made at all, or not by this call.
    #[error("{0}")]
    Wrong(String),
    /// It may be made later.
    #[error("{0}")]
    NotNow(String),
    /// The leader is to be removed: another one has to lead first.
    #[error("this job manager leads; another one has to take over before it can be removed")]
    Leads,
}

/// The next step of a change; `None` if nothing is left to do.
pub fn plan(members: &Members, change: &Change, seen: &Seen) -> Result<Option<Step>, Refusal> {
    match change {
        Change::Add(member) => add(members, member),
        Change::Rejoin(member) => rejoin(members, member, seen),
        Change::Promote(id) => promote(members, *id, seen),
        Change::Remove(id) => remove(members, *id, seen),
    }
}

fn step(kind: ConfChangeType, member: &v1::JobManagerMember, role: Role) -> Option<Step> {
    let member = v1::JobManagerMember {
        role: role.into(),
        ..member.clone()
    };
    Some(Step { kind, member })
}

fn add(members: &Members, new: &v1::JobManagerMember) -> Result<Option<Step>, Refusal> {
    let id = new.id;
    if let Some(old) = members.get(&id) {
        let same = old.incarnation == new.incarnation;
        match old.role() {
            Role::Voter | Role::Learner if same && old.address == new.address => return Ok(None),
            Role::Voter | Role::Learner => {
                return Err(Refusal::Wrong(format!(
                    "job manager {id} is a member already, at {}; remove it first, or choose another id",
                    old.address
                )));
            }
            _ if new.incarnation <= old.incarnation => {
                return Err(Refusal::Wrong(format!(
                    "the process at {} has the data folder of the job manager {id} that was removed; empty that folder",
                    new.address
                )));
            }
            _ => {}
        }
    }
    let taken = members.values().find(|member| {
        member.id != id && member.address == new.address && member.role() != Role::Removed
    });
    if let Some(other) = taken {
        return Err(Refusal::Wrong(format!(
            "{} is the address of job manager {}",
            new.address, other.id
        )));
    }
    let count = members.values().filter(|m| m.role() != Role::Removed);
    if count.count() >= MEMBERS_MAX {
        return Err(Refusal::Wrong(format!(
            "there are {MEMBERS_MAX} job managers; more are not possible"
        )));
    }
    Ok(step(ConfChangeType::AddLearnerNode, new, Role::Learner))
}

fn rejoin(
    members: &Members,
    new: &v1::JobManagerMember,
    seen: &Seen,
) -> Result<Option<Step>, Refusal> {
    let id = new.id;
    let unknown = || {
        Refusal::Wrong(format!(
            "job manager {id} is no member; let it in with 'weir jobmanager add {id}={}'",
            new.address
        ))
    };
    let old = members.get(&id).ok_or_else(unknown)?;
    if new.incarnation < old.incarnation {
        return Err(Refusal::Wrong(format!(
            "the data folder of job manager {id} has been replaced by a newer one"
        )));
    }
    let role = old.role();
    match role {
        Role::Voter | Role::Learner if new.incarnation == old.incarnation => {
            if new.address == old.address {
                return Ok(None);
            }
            let kind = match role {
                Role::Voter => ConfChangeType::AddNode,
                _ => ConfChangeType::AddLearnerNode,
            };
            Ok(step(kind, new, role))
        }
        Role::Voter | Role::Learner if seen.active.contains(&id) => Err(Refusal::NotNow(format!(
            "job manager {id} is alive with another data folder; a second one with its id is not let in"
        ))),
        Role::Voter | Role::Learner => {
            check_removal(members, id, seen)?;
            Ok(step(ConfChangeType::RemoveNode, old, Role::Absent))
        }
        Role::Absent => Ok(step(ConfChangeType::AddLearnerNode, new, Role::Learner)),
        Role::Removed | Role::Unspecified => Err(unknown()),
    }
}

fn promote(members: &Members, id: u64, seen: &Seen) -> Result<Option<Step>, Refusal> {
    let Some(member) = members.get(&id) else {
        return Err(Refusal::Wrong(format!("job manager {id} is no member")));
    };
    match member.role() {
        Role::Voter => return Ok(None),
        Role::Learner => {}
        _ => return Err(Refusal::Wrong(format!("job manager {id} is no member"))),
    }
    if !seen.caught_up.contains(&id) {
        return Err(Refusal::NotNow(format!(
            "job manager {id} has not caught up with the log yet"
        )));
    }
    let mut voters = voters(members);
    voters.insert(id);
    check_quorum(&voters, seen, &format!("job manager {id} cannot vote yet"))?;
    Ok(step(ConfChangeType::AddNode, member, Role::Voter))
}

fn remove(members: &Members, id: u64, seen: &Seen) -> Result<Option<Step>, Refusal> {
    let Some(member) = members.get(&id) else {
        return Err(Refusal::Wrong(format!("job manager {id} is no member")));
    };
    if member.role() == Role::Removed {
        return Ok(None);
    }
    check_removal(members, id, seen)?;
    if id == seen.own {
        return Err(Refusal::Leads);
    }
    Ok(step(ConfChangeType::RemoveNode, member, Role::Removed))
}

fn check_removal(members: &Members, id: u64, seen: &Seen) -> Result<(), Refusal> {
    let mut left = voters(members);
    if !left.remove(&id) {
        return Ok(());
    }
    if left.is_empty() {
        return Err(Refusal::Wrong(format!(
            "job manager {id} is the only one that votes"
        )));
    }
    check_quorum(
        &left,
        seen,
        &format!("job manager {id} cannot be taken out"),
    )
}

fn check_quorum(voters: &BTreeSet<u64>, seen: &Seen, what: &str) -> Result<(), Refusal> {
    let alive = voters.intersection(&seen.active).count();
    let needed = voters.len() / 2 + 1;
    if alive >= needed {
        return Ok(());
    }
    let silent: Vec<String> = voters
        .difference(&seen.active)
        .map(u64::to_string)
        .collect();
    Err(Refusal::NotNow(format!(
        "{what}: {needed} of the then {} voters would have to be alive, {alive} are (silent: {})",
        voters.len(),
        silent.join(", ")
    )))
}

fn voters(members: &Members) -> BTreeSet<u64> {
    let voting = members.values().filter(|m| m.role() == Role::Voter);
    voting.map(|member| member.id).collect()
}

/// What a member without data hears from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Nothing was ever decided there.
    pub blank: bool,
}

/// How a member without data comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing can be said yet.
    Wait,
    /// The cluster does not exist yet: this is one of its first members.
    Found,
    /// It exists: this member has to be let in.
    Join,
}

/// Whether the cluster exists already. `first` is the number of its first members, `patient`: those that have not answered may still come.
pub fn entry(id: u64, first: usize, heard: &[Description], patient: bool) -> Entry {
    if id > first as u64 || heard.iter().any(|peer| !peer.blank) {
        return Entry::Join;
    }
    let there = heard.len() + 1;
    if there >= first || (!patient && there > first / 2) {
        return Entry::Found;
    }
    Entry::Wait
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, incarnation: u64, role: Role) -> v1::JobManagerMember {
        v1::JobManagerMember {
            id,
            address: format!("h:{id}"),
            incarnation,
            role: role.into(),
        }
    }

    fn three() -> Members {
        (1..=3).map(|id| (id, member(id, 0, Role::Voter))).collect()
    }

    fn seen(active: &[u64]) -> Seen {
        Seen {
            own: 1,
            active: active.iter().copied().collect(),
            caught_up: active.iter().copied().collect(),
        }
    }

    /// Plans and carries out; what was done.
    fn done(members: &mut Members, change: &Change, active: &[u64]) -> Option<ConfChangeType> {
        let step = plan(members, change, &seen(active)).unwrap()?;
        members.insert(step.member.id, step.member);
        Some(step.kind)
    }

    fn refusal(members: &Members, change: &Change, active: &[u64]) -> String {
        plan(members, change, &seen(active))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_new_member_learns_before_it_votes() {
        let mut members = three();
        let add = Change::Add(member(4, 100, Role::Unspecified));
        let active = [1, 2, 3, 4];
        assert_eq!(
            done(&mut members, &add, &active),
            Some(ConfChangeType::AddLearnerNode)
        );
        assert_eq!(done(&mut members, &add, &active), None);
        let mut behind = seen(&active);
        behind.caught_up.remove(&4);
        assert!(matches!(
            plan(&members, &Change::Promote(4), &behind),
            Err(Refusal::NotNow(_))
        ));
        assert_eq!(
            done(&mut members, &Change::Promote(4), &active),
            Some(ConfChangeType::AddNode)
        );
        assert_eq!(done(&mut members, &Change::Promote(4), &active), None);
    }

    #[test]
    fn nobody_is_taken_out_whom_the_quorum_needs() {
        let mut members = three();
        let silent = refusal(&members, &Change::Remove(2), &[1, 2]);
        assert!(
            silent.contains("2 of the then 2 voters") && silent.contains("silent: 3"),
            "{silent}"
        );
        // The silent one may go.
        assert_eq!(
            done(&mut members, &Change::Remove(3), &[1, 2]),
            Some(ConfChangeType::RemoveNode)
        );
        assert_eq!(done(&mut members, &Change::Remove(3), &[1, 2]), None);
        assert!(matches!(
            plan(&members, &Change::Remove(1), &seen(&[1, 2])),
            Err(Refusal::Leads)
        ));
        done(&mut members, &Change::Remove(2), &[1, 2]);
        assert!(refusal(&members, &Change::Remove(1), &[1]).contains("only one"));
    }

    #[test]
    fn a_removed_folder_does_not_come_back_but_an_empty_one_does() {
        let mut members = three();
        done(&mut members, &Change::Remove(3), &[1, 2]);
        let old = refusal(
            &members,
            &Change::Add(member(3, 0, Role::Unspecified)),
            &[1, 2],
        );
        assert!(old.contains("empty that folder"), "{old}");
        let rejoin = Change::Rejoin(member(3, 9, Role::Unspecified));
        assert!(refusal(&members, &rejoin, &[1, 2]).contains("weir jobmanager add 3=h:3"));
        assert!(
            done(
                &mut members,
                &Change::Add(member(3, 9, Role::Unspecified)),
                &[1, 2]
            )
            .is_some()
        );
    }

    #[test]
    fn a_lost_disk_is_replaced_in_steps_that_any_leader_can_go_on_with() {
        let mut members = three();
        let rejoin = Change::Rejoin(member(2, 50, Role::Unspecified));
        assert!(refusal(&members, &rejoin, &[1, 2, 3]).contains("is alive"));
        assert!(refusal(&members, &rejoin, &[1]).contains("cannot be taken out"));
        let active = [1, 3];
        assert_eq!(
            done(&mut members, &rejoin, &active),
            Some(ConfChangeType::RemoveNode)
        );
        assert_eq!(members[&2].role(), Role::Absent);
        assert_eq!(
            done(&mut members, &rejoin, &active),
            Some(ConfChangeType::AddLearnerNode)
        );
        assert_eq!(members[&2].incarnation, 50);
        assert_eq!(done(&mut members, &rejoin, &[1, 2, 3]), None);
        // The old folder turns up again.
        let old = Change::Rejoin(member(2, 0, Role::Unspecified));
        assert!(refusal(&members, &old, &active).contains("replaced"));
    }

    #[test]
    fn a_member_that_moved_is_found_at_its_new_address() {
        let mut members = three();
        let moved = v1::JobManagerMember {
            address: "other:1".to_owned(),
            ..member(2, 0, Role::Unspecified)
        };
        assert_eq!(
            done(&mut members, &Change::Rejoin(moved), &[1, 2, 3]),
            Some(ConfChangeType::AddNode)
        );
        assert_eq!(members[&2].address, "other:1");
        assert_eq!(members[&2].role(), Role::Voter);
    }

    #[test]
    fn addresses_and_ids_are_taken_once() {
        let members = three();
        let at_2 = v1::JobManagerMember {
            address: "h:2".to_owned(),
            ..member(7, 5, Role::Unspecified)
        };
        assert!(refusal(&members, &Change::Add(at_2), &[1]).contains("address of job manager 2"));
        let other = Change::Add(member(2, 5, Role::Unspecified));
        assert!(refusal(&members, &other, &[1]).contains("is a member already"));
    }

    #[test]
    fn a_member_without_data_founds_a_cluster_only_if_nobody_has_one() {
        let blank = Description { blank: true };
        let data = Description { blank: false };
        for (id, heard, patient, expected) in [
            (1, &[][..], true, Entry::Wait),
            (1, &[], false, Entry::Wait),
            (1, &[blank], true, Entry::Wait),
            (1, &[blank], false, Entry::Found),
            (1, &[blank, blank], true, Entry::Found),
            (1, &[blank, data], true, Entry::Join),
            (1, &[data], false, Entry::Join),
            (4, &[], true, Entry::Join),
        ] {
            assert_eq!(
                entry(id, 3, heard, patient),
                expected,
                "{id} {heard:?} {patient}"
            );
        }
    }
}
