//! SubmitJob: from a script or graph to entries in the log. Everything that can be refused is refused before the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::Status;
use weir_common::ids::JobId;
use weir_common::limits;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_proto::v1::submit_job_request::Program;
use weir_sql::SessionDefaults;

use crate::checkpoint::fit::fit;
use crate::checkpoint::storage;
use crate::error::propose_status;
use crate::leadership::Leadership;
use crate::meta::Outcome;
use crate::validate;

const REQUEST_ID_BYTES_MAX: usize = 256;

/// Makes the jobs of a submission; the same request id gives the same jobs.
pub async fn submit(
    leader: &Arc<Leadership>,
    job_defaults: &BTreeMap<String, String>,
    request: v1::SubmitJobRequest,
) -> Result<Vec<String>, Status> {
    if request.request_id.len() > REQUEST_ID_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "the request id is longer than {REQUEST_ID_BYTES_MAX} bytes"
        )));
    }
    if !request.request_id.is_empty() {
        let known = leader
            .raft
            .view()
            .read()
            .jobs_of_request(&request.request_id);
        if !known.is_empty() {
            return Ok(known);
        }
    }
    let mut recovery = Recovery::of_request(&request);
    let mut graphs = graphs(job_defaults, request.program, request.parallelism).await?;
    if !request.job_name.is_empty() {
        let [graph] = graphs.as_mut_slice() else {
            return Err(Status::invalid_argument(format!(
                "a name can be given to one job, the script makes {}",
                graphs.len()
            )));
        };
        graph.name = request.job_name;
    }
    for graph in &graphs {
        validate::graph(graph).map_err(Status::invalid_argument)?;
    }
    recovery.complete(&graphs);
    check_savepoint(leader, &graphs, &recovery).await?;
    let jobs = graphs
        .into_iter()
        .map(|graph| v1::NewJob {
            job_id: JobId::random().as_str().to_owned(),
            graph: Some(graph),
            from_savepoint: recovery.path.clone(),
            allow_non_restored_state: recovery.allow_non_restored_state,
            claim_mode: recovery.claim_mode.into(),
        })
        .collect();
    enter(leader, request.request_id, jobs).await
}

/// What a job starts from, and on which terms.
struct Recovery {
    /// Empty: from nothing.
    path: String,
    allow_non_restored_state: bool,
    claim_mode: v1::ClaimMode,
}

impl Recovery {
    fn of_request(request: &v1::SubmitJobRequest) -> Self {
        Self {
            path: request.from_savepoint.clone(),
            allow_non_restored_state: request.allow_non_restored_state,
            claim_mode: request.claim_mode(),
        }
    }

    /// The script's settings count where the request says nothing.
    fn complete(&mut self, graphs: &[v1::JobGraph]) {
        let option = |key: &str| {
            let key = format!("execution.state-recovery.{key}");
            let mut set = graphs.iter().filter_map(|graph| graph.options.get(&key));
            set.next().map(String::as_str)
        };
        if self.path.is_empty() {
            self.path = option("path").unwrap_or_default().to_owned();
        }
        self.allow_non_restored_state |= option("ignore-unclaimed-state") == Some("true");
        if self.claim_mode == v1::ClaimMode::Unspecified {
            self.claim_mode = match option("claim-mode") {
                Some("CLAIM") => v1::ClaimMode::Claim,
                _ => v1::ClaimMode::NoClaim,
            };
        }
    }
}

async fn enter(
    leader: &Arc<Leadership>,
    request_id: String,
    jobs: Vec<v1::NewJob>,
) -> Result<Vec<String>, Status> {
    let command = Command::SubmitJobs(v1::SubmitJobsCommand { request_id, jobs });
    let outcome = leader
        .propose(command)
        .await
        .map_err(|error| propose_status(&error))?;
    let Outcome::Jobs(ids) = outcome else {
        return Err(Status::internal("the submission gave no jobs"));
    };
    for id in &ids {
        let record = leader.raft.view().read().job(id);
        if let Some(record) = record {
            tracing::info!(job = %id, name = %record.name, "job is submitted");
            leader.open(&record);
        }
    }
    Ok(ids)
}

async fn graphs(
    job_defaults: &BTreeMap<String, String>,
    program: Option<Program>,
    parallelism: u32,
) -> Result<Vec<v1::JobGraph>, Status> {
    match program {
        None => Err(Status::invalid_argument(
            "the submission has neither a script nor a graph",
        )),
        Some(Program::Graph(mut graph)) => {
            if parallelism > 0 {
                validate::set_parallelism(&mut graph, parallelism);
                if let Some(scheduler) = &mut graph.adaptive {
                    scheduler.upper_bound = parallelism;
                }
            }
            Ok(vec![graph])
        }
        Some(Program::SqlScript(script)) => {
            if script.len() > limits::SQL_SCRIPT_BYTES {
                return Err(Status::invalid_argument(format!(
                    "the script has {} bytes, at most {} are possible",
                    script.len(),
                    limits::SQL_SCRIPT_BYTES
                )));
            }
            let defaults = SessionDefaults {
                default_parallelism: parallelism,
                options: job_defaults.clone(),
            };
            // Planning is pure computation and may take a while.
            tokio::task::spawn_blocking(move || weir_sql::plan_script(&script, defaults))
                .await
                .map_err(|error| Status::internal(format!("the planner failed: {error}")))?
                .map_err(|error| Status::invalid_argument(error.to_string()))
        }
    }
}

/// Refuses a savepoint that is not there, is damaged, or does not fit the job.
async fn check_savepoint(
    leader: &Leadership,
    graphs: &[v1::JobGraph],
    recovery: &Recovery,
) -> Result<(), Status> {
    let path = recovery.path.as_str();
    if path.is_empty() {
        return Ok(());
    }
    let [graph] = graphs else {
        return Err(Status::invalid_argument(format!(
            "one job can be started from a savepoint, the script makes {}; put its INSERTs into a STATEMENT SET",
            graphs.len()
        )));
    };
    let opened = storage::open_savepoint(&leader.s3, path).await;
    let from = opened.map_err(|error| {
        let message = format!("cannot start from {path}: {error}");
        if error.is_damage() {
            Status::invalid_argument(message)
        } else {
            Status::failed_precondition(message)
        }
    })?;
    let manifest = from.manifest.unwrap_or_default();
    fit(graph, manifest, recovery.allow_non_restored_state)
        .map(drop)
        .map_err(|refusal| Status::invalid_argument(format!("cannot start from {path}: {refusal}")))
}
