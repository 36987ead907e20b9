//! What an attempt tells the job manager of its subtasks: one call at a time, and what comes up meanwhile shares the next one. So nothing
//! waits for company, and with many subtasks a leader gets a few calls from each task manager instead of one from each subtask.

use prost::Message as _;
use tokio::sync::mpsc;
use weir_proto::v1;

use crate::attempt::Attempt;

/// Subtasks in one call.
const SUBTASKS: usize = 1024;
/// Encoded bytes of acknowledgements in one call; one that is larger goes alone. Far below the largest message that is taken.
const BYTES: usize = 8 << 20;

/// Sends reports, in order.
pub async fn reports(attempt: &Attempt, mut inbox: mpsc::Receiver<v1::SubtaskReport>) {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, SUBTASKS).await > 0 {
        let subtasks = std::mem::take(&mut waiting);
        let answer = attempt
            .leader
            .call("ReportSubtask", &attempt.cancel, |mut client, term| {
                let request = v1::ReportSubtaskRequest {
                    fence: Some(attempt.fence_at(term)),
                    task_manager_id: attempt.task_manager.clone(),
                    subtasks: subtasks.clone(),
                };
                async move { client.report_subtask(request).await }
            })
            .await;
        attempt.note(answer.err(), "report");
    }
}

/// Sends acknowledgements of checkpoints.
pub async fn acknowledgements(
    attempt: &Attempt,
    mut inbox: mpsc::Receiver<v1::SubtaskAcknowledgement>,
) {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, SUBTASKS).await > 0 {
        for subtasks in calls(waiting.drain(..), BYTES) {
            acknowledge(attempt, &subtasks).await;
        }
    }
}

async fn acknowledge(attempt: &Attempt, subtasks: &[v1::SubtaskAcknowledgement]) {
    let answer = attempt
        .leader
        .call(
            "AcknowledgeCheckpoint",
            &attempt.cancel,
            |mut client, term| {
                let request = v1::AcknowledgeCheckpointRequest {
                    fence: Some(attempt.fence_at(term)),
                    task_manager_id: attempt.task_manager.clone(),
                    subtasks: subtasks.to_vec(),
                };
                async move { client.acknowledge_checkpoint(request).await }
            },
        )
        .await;
    attempt.note(answer.err(), "acknowledgement");
}

/// Divides acknowledgements among calls that stay below `limit`, in order.
fn calls(
    waiting: impl Iterator<Item = v1::SubtaskAcknowledgement>,
    limit: usize,
) -> Vec<Vec<v1::SubtaskAcknowledgement>> {
    let mut calls = Vec::new();
    let (mut call, mut bytes) = (Vec::new(), 0);
    for acknowledgement in waiting {
        let own = acknowledgement.encoded_len();
        if bytes + own > limit && !call.is_empty() {
            calls.push(std::mem::take(&mut call));
            bytes = 0;
        }
        bytes += own;
        call.push(acknowledgement);
    }
    if !call.is_empty() {
        calls.push(call);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_in_bytes_and_keep_the_order() {
        let acknowledgement = |bytes: usize| v1::SubtaskAcknowledgement {
            operators: vec![v1::OperatorSnapshot {
                operator_name: "x".repeat(bytes),
                ..Default::default()
            }],
            ..Default::default()
        };
        let divided = |sizes: &[usize]| -> Vec<Vec<usize>> {
            let calls = calls(sizes.iter().map(|bytes| acknowledgement(*bytes)), 1000);
            let name = |a: &v1::SubtaskAcknowledgement| a.operators[0].operator_name.len();
            let sizes = |call: &Vec<_>| call.iter().map(name).collect();
            calls.iter().map(sizes).collect()
        };
        assert_eq!(divided(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(divided(&[300, 301, 302]), [vec![300, 301, 302]]);
        assert_eq!(divided(&[600, 301, 302, 1]), [vec![600, 301], vec![302, 1]]);
        assert_eq!(divided(&[5000, 1, 5001]), [vec![5000], vec![1], vec![5001]]);
    }
}
