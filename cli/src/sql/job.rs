//! Runs one job to its end: submits it, shows its rows and its progress, cancels it on Ctrl-C.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use weir_proto::v1;
use weir_sql::{JobStatement, PlannedQuery};

use super::progress::Progress;
use super::render::Renderer;
use super::results::{ResultRows, ResultServer};
use crate::args::SqlCommand;
use crate::client::JobClient;
use crate::commands::{get_job, list_jobs, state_name, stop_job, time};
use crate::roles::Interrupts;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a running job is asked for its state: short at first, so that small jobs end at once.
const POLL_MIN: Duration = Duration::from_millis(10);
const POLL_MAX: Duration = Duration::from_millis(250);

/// Runs jobs on one cluster, one after the other.
pub struct JobRunner {
    client: JobClient,
    command: SqlCommand,
    interrupts: Interrupts,
}

impl JobRunner {
    /// For the cluster behind `client`.
    pub fn new(client: JobClient, command: SqlCommand, interrupts: Interrupts) -> Self {
        Self {
            client,
            command,
            interrupts,
        }
    }

    /// INSERT or STATEMENT SET.
    pub async fn run_insert(&mut self, graph: v1::JobGraph) -> anyhow::Result<()> {
        let mut progress = Progress::new(&graph, self.command.quiet);
        let job = self.submit(graph).await?;
        self.wait(&job, &mut progress, None).await
    }

    /// A bare SELECT: its rows go to the standard output.
    pub async fn run_query(&mut self, query: PlannedQuery) -> anyhow::Result<()> {
        let mut graph = query.graph;
        let server = ResultServer::start().await?;
        let mut found = false;
        for operator in graph
            .vertices
            .iter_mut()
            .flat_map(|vertex| vertex.chain.iter_mut())
        {
            if let Some(v1::operator::Kind::Sink(sink)) = &mut operator.kind
                && sink.connector == "collect"
            {
                sink.options
                    .insert("collect.address".to_owned(), server.address());
                sink.options
                    .insert("collect.token".to_owned(), server.token().to_owned());
                found = true;
            }
        }
        anyhow::ensure!(found, "the plan of the query has no sink");
        let mut progress = Progress::new(&graph, self.command.quiet);
        let mut renderer = Renderer::new(
            &query.schema,
            self.command.result,
            self.command.format,
            query.changelog,
        )?;
        let job = self.submit(graph).await?;
        let (rows, server) = server.into_parts();
        let result = self
            .wait(&job, &mut progress, Some((rows, &mut renderer)))
            .await;
        if result.is_err() {
            // It may run still, with nobody to take its rows. If it has ended, this is refused.
            self.cancel(&job).await.ok();
        }
        server.stop().await;
        // Of a query that was cut short, what there was; nothing looks like an empty answer.
        if result.is_ok() || !renderer.is_empty() {
            renderer.finish()?;
        }
        result
    }

    /// SHOW JOBS, DESCRIBE JOB, STOP JOB: names of columns, and rows. `directory`: of savepoints; else the cluster's default.
    pub async fn about_jobs(
        &mut self,
        statement: JobStatement,
        directory: Option<&str>,
    ) -> anyhow::Result<(Vec<String>, Vec<Vec<Option<String>>>)> {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let jobs = match statement {
            JobStatement::Show => list_jobs(&mut self.client).await?,
            JobStatement::Describe(id) => {
                let answer = get_job(&mut self.client, &id).await?;
                answer.job.into_iter().collect()
            }
            JobStatement::Stop {
                id,
                savepoint: false,
            } => {
                self.cancel(&id).await?;
                return Ok((columns(&["result"]), vec![vec![Some("OK".to_owned())]]));
            }
            JobStatement::Stop { id, .. } => {
                let directory = directory.unwrap_or_default().to_owned();
                let path = stop_job(&mut self.client, id, directory).await?;
                return Ok((columns(&["savepoint path"]), vec![vec![Some(path)]]));
            }
        };
        let rows = jobs.into_iter().map(|job| {
            let (state, submitted) = (state_name(job.state()).to_owned(), time(job.submitted_ms));
            [job.job_id, job.name, state, submitted].map(Some).to_vec()
        });
        let names = ["job id", "job name", "status", "start time"];
        Ok((columns(&names), rows.collect()))
    }

    async fn submit(&mut self, graph: v1::JobGraph) -> anyhow::Result<String> {
        let request = v1::SubmitJobRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            program: Some(v1::submit_job_request::Program::Graph(graph)),
            ..v1::SubmitJobRequest::default()
        };
        let submission = self.client.call(CALL_TIMEOUT, async |mut client| {
            Ok(client.submit_job(request.clone()).await?.into_inner())
        });
        let answer = tokio::select! {
            answer = submission => answer?,
            () = self.interrupts.next() => anyhow::bail!("interrupted while the job was being submitted"),
        };
        for warning in answer.warnings.iter().filter(|_| !self.command.quiet) {
            eprintln!("warning: {warning}");
        }
        answer
            .job_ids
            .into_iter()
            .next()
            .ok_or_else(|| anyhow::anyhow!("the job manager named no job"))
    }

    async fn wait(
        &mut self,
        job: &str,
        progress: &mut Progress,
        output: Option<(mpsc::Receiver<ResultRows>, &mut Renderer)>,
    ) -> anyhow::Result<()> {
        let (mut rows, mut renderer) = output.map_or((None, None), |(rows, renderer)| {
            (Some(rows), Some(renderer))
        });
        let mut pause = POLL_MIN;
        let mut next_poll = Instant::now() + pause;
        loop {
            tokio::select! {
                Some(part) = receive(rows.as_mut()) => {
                    if let Some(renderer) = &mut renderer {
                        progress.suspend(|| renderer.add(&part))?;
                    }
                }
                () = tokio::time::sleep_until(next_poll.into()) => {
                    let answer = get_job(&mut self.client, job).await?;
                    progress.update(&answer);
                    if let Some(renderer) = &mut renderer {
                        renderer.refresh()?;
                    }
                    if is_final(&answer) {
                        // What the sinks sent before the end is in the queue by now: they wait for our answer.
                        while let Some(part) = rows.as_mut().and_then(|rows| rows.try_recv().ok()) {
                            if let Some(renderer) = &mut renderer {
                                renderer.add(&part)?;
                            }
                        }
                        progress.finish(&answer);
                        return outcome(&answer);
                    }
                    pause = (pause * 3 / 2).min(POLL_MAX);
                    next_poll = Instant::now() + pause;
                }
                () = self.interrupts.next() => return self.interrupt(job).await,
            }
        }
    }

    async fn interrupt(&mut self, job: &str) -> anyhow::Result<()> {
        self.cancel(job).await?;
        anyhow::bail!("interrupted; the job was cancelled")
    }

    async fn cancel(&mut self, job: &str) -> anyhow::Result<()> {
        let request = v1::CancelJobRequest {
            job_id: job.to_owned(),
        };
        self.client
            .call(CALL_TIMEOUT, async |mut client| {
                Ok(client.cancel_job(request.clone()).await?.into_inner())
            })
            .await?;
        Ok(())
    }
}

async fn receive(rows: Option<&mut mpsc::Receiver<ResultRows>>) -> Option<ResultRows> {
    match rows {
        Some(rows) => rows.recv().await,
        None => None,
    }
}

fn is_final(answer: &v1::GetJobResponse) -> bool {
    let state = answer
        .job
        .as_ref()
        .map_or(v1::JobState::Unspecified, v1::JobSummary::state);
    matches!(
        state,
        v1::JobState::Finished | v1::JobState::Failed | v1::JobState::Canceled
    )
}

fn outcome(answer: &v1::GetJobResponse) -> anyhow::Result<()> {
    let job = answer.job.clone().unwrap_or_default();
    match job.state() {
        v1::JobState::Finished => Ok(()),
        v1::JobState::Failed => anyhow::bail!("the job failed: {}", job.error),
        state => anyhow::bail!("the job is {}", state_name(state)),
    }
}

/// Ids of the vertices that read or write tables.
pub fn end_vertices(graph: &v1::JobGraph) -> (HashSet<u32>, HashSet<u32>) {
    let (mut sources, mut sinks) = (HashSet::new(), HashSet::new());
    for vertex in &graph.vertices {
        for operator in &vertex.chain {
            match operator.kind {
                Some(v1::operator::Kind::Source(_)) => sources.insert(vertex.id),
                Some(v1::operator::Kind::Sink(_)) => sinks.insert(vertex.id),
                _ => false,
            };
        }
    }
    (sources, sinks)
}
