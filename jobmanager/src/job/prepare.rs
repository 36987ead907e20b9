//! Before a rescale: files of the newest snapshot go to the machines that will need them, while the job runs.

use std::sync::Arc;

use weir_proto::v1;
use weir_snapshot::recovery::Verify;

use super::io;
use super::io::Attempt;
use super::placement::Placement;
use crate::checkpoint::storage;
use crate::leadership::Leadership;
use crate::scheduler::place::Shortage;

/// `fence` is that of the attempt that runs, `places` are where the next one would run. Without it that one has more to download, no more: what
/// goes wrong is only told.
pub async fn prepare(
    leader: &Leadership,
    fence: v1::Fence,
    graph: v1::JobGraph,
    places: Result<Vec<v1::SlotPlace>, Shortage>,
    base: &str,
) {
    let job = leader.raft.view().read().job(&fence.job_id);
    if let (Some(job), Ok(places)) = (job, places) {
        match storage::choose_restore(&leader.s3, &job, base, Verify::Sizes).await {
            Ok(restore) => {
                let next = Attempt {
                    fence: fence.clone(),
                    slots: Arc::new(Placement::new(places)),
                };
                io::fetch_state(&leader.task_managers, &next, graph, restore.from).await;
            }
            Err((reason, _)) => {
                tracing::info!(job = %fence.job_id, "the next attempt's state is not fetched beforehand: {reason}");
            }
        }
    }
}
