//! What users see of a job: the log's record, the leader's picture and the task managers' words, put together.

use std::collections::BTreeMap;

use weir_common::ids::SubtaskId;
use weir_proto::v1;

use crate::job::execution::vertex_name;
use crate::job::status::JobStatus;
use crate::leadership::Leadership;

/// One line of a list.
pub fn summary(record: &v1::JobRecord, status: Option<&JobStatus>) -> v1::JobSummary {
    let waiting = status.map(|status| status.waiting.clone());
    v1::JobSummary {
        job_id: record.job_id.clone(),
        name: record.name.clone(),
        state: record.state,
        attempt: record.attempt,
        submitted_ms: record.submitted_ms,
        ended_ms: record.ended_ms,
        restarts: record.restarts,
        error: match waiting {
            Some(waiting) if !waiting.is_empty() => waiting,
            _ => record.error.clone(),
        },
    }
}

/// Everything about a job.
pub fn details(leader: &Leadership, record: &v1::JobRecord) -> v1::GetJobResponse {
    let status = leader.job(&record.job_id).map(|job| job.status());
    let subtasks = match (&status, &record.graph) {
        (Some(status), Some(graph)) => subtasks(leader, graph, &record.job_id, status),
        _ => record.subtasks.clone(),
    };
    v1::GetJobResponse {
        job: Some(summary(record, status.as_ref())),
        checkpoints: record.checkpoints.clone(),
        subtasks,
        failed_checkpoints: status.as_ref().map_or(0, |s| s.failed_checkpoints),
        last_checkpoint_failure: status
            .map(|s| s.last_checkpoint_failure)
            .unwrap_or_default(),
    }
}

fn subtasks(
    leader: &Leadership,
    graph: &v1::JobGraph,
    job_id: &str,
    status: &JobStatus,
) -> Vec<v1::SubtaskInfo> {
    let said: BTreeMap<SubtaskId, v1::SubtaskStatus> = leader
        .members
        .lock()
        .subtasks(job_id, status.attempt)
        .into_iter()
        .filter_map(|(_, said)| said.subtask.map(|subtask| (subtask.into(), said)))
        .collect();
    let info = |(&subtask, &state): (&SubtaskId, &v1::SubtaskState)| {
        let slot = status.slots.get(subtask.index as usize);
        v1::SubtaskInfo {
            status: Some(v1::SubtaskStatus {
                subtask: Some(subtask.into()),
                state: state.into(),
                metrics: said.get(&subtask).and_then(|said| said.metrics),
            }),
            vertex_name: vertex_name(graph, subtask).to_owned(),
            task_manager_id: slot.map(|s| s.task_manager_id.clone()).unwrap_or_default(),
            address: slot.map(|s| s.address.clone()).unwrap_or_default(),
        }
    };
    status.subtasks.iter().map(info).collect()
}
