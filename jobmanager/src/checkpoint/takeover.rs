//! What a new leader says about the snapshots of an attempt that goes on. Pure.

use weir_proto::v1;

use super::coordinator::Request;
use crate::meta::view::newest_checkpoint_id;

/// The old leader may have gone between the log and the commit, or in the middle of a snapshot: the newest restore point is announced
/// again (commits are idempotent), and a snapshot that was begun after it is given up.
pub fn announcements(job: &v1::JobRecord) -> Vec<Request> {
    let newest = newest_checkpoint_id(job);
    let last_allocated = job.next_checkpoint_id.saturating_sub(1);
    let completed = (newest > 0).then_some(Request::Notify {
        id: newest,
        completed: true,
    });
    let given_up = (last_allocated > newest).then_some(Request::Notify {
        id: last_allocated,
        completed: false,
    });
    completed.into_iter().chain(given_up).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_complete_is_committed_and_what_is_not_is_given_up() {
        let said = |newest: u64, next: u64| -> Vec<(u64, bool)> {
            let mut job = v1::JobRecord {
                next_checkpoint_id: next,
                ..Default::default()
            };
            if newest > 0 {
                job.checkpoints.push(v1::CheckpointInfo {
                    checkpoint_id: newest,
                    ..Default::default()
                });
            }
            let said = announcements(&job)
                .into_iter()
                .map(|request| match request {
                    Request::Notify { id, completed } => (id, completed),
                    other => panic!("{other:?}"),
                });
            said.collect()
        };
        assert_eq!(said(0, 1), []);
        assert_eq!(said(0, 2), [(1, false)]);
        assert_eq!(said(4, 5), [(4, true)]);
        assert_eq!(said(4, 7), [(4, true), (6, false)]);
    }
}
