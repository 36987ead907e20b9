//! Three job managers, each on a runtime of its own: shutting one down without a word is as good as a killed process.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use weir_common::config::Config;
use weir_jobmanager::{JobManager, JobManagerHandle};
use weir_proto::transport::connect;
use weir_proto::v1;
use weir_proto::v1::job_service_client::JobServiceClient;

use crate::{CLUSTER, until};

struct Member {
    runtime: Runtime,
    handle: JobManagerHandle,
}

/// See the file's head.
pub struct Group {
    addresses: Arc<[String]>,
    members: Vec<Option<Member>>,
}

impl Group {
    /// Starts all three and waits for a leader.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let sockets = (0..3)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = sockets
            .iter()
            .map(|socket| Ok(socket.local_addr()?.to_string()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        drop(sockets);
        let mut members = Vec::new();
        for (id, address) in (1..).zip(&addresses) {
            let mut config = Config {
                cluster_id: CLUSTER.to_owned(),
                ..Config::default()
            };
            config.jobmanager.id = id;
            config.jobmanager.bind = address.parse()?;
            config.jobmanager.peers.clone_from(&addresses);
            config.jobmanager.data_dir = folder.join(format!("jm-{id}"));
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .thread_name(format!("jobmanager-{id}"))
                .enable_all()
                .build()?;
            let handle = runtime.spawn(JobManager::start(config)).await??;
            members.push(Some(Member { runtime, handle }));
        }
        let group = Self {
            addresses: addresses.into(),
            members,
        };
        until("a leader", async || group.has_leader().then_some(())).await?;
        Ok(group)
    }

    /// HOST:PORT of all.
    pub fn addresses(&self) -> Arc<[String]> {
        Arc::clone(&self.addresses)
    }

    fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            member
                .as_ref()
                .is_some_and(|member| member.handle.is_leader())
        })
    }

    /// Whether one of those that are left leads.
    pub fn has_leader(&self) -> bool {
        self.leader().is_some()
    }

    /// The leader's sockets are closed in the middle of whatever it does.
    pub fn kill_leader(&mut self) -> anyhow::Result<()> {
        let leader = self.leader().context("nobody leads")?;
        if let Some(member) = self.members.get_mut(leader).and_then(Option::take) {
            kill(member);
        }
        Ok(())
    }

    fn client(&self) -> anyhow::Result<JobServiceClient<Channel>> {
        let leader = self.leader().context("nobody leads")?;
        let address = self.addresses.get(leader).context("no address")?;
        Ok(JobServiceClient::new(connect(address, None)?)
            .max_decoding_message_size(weir_common::limits::CONTROL_MESSAGE_BYTES))
    }

    /// Submits a graph; the job's id.
    pub async fn submit(&self, graph: v1::JobGraph) -> anyhow::Result<String> {
        let request = v1::SubmitJobRequest {
            request_id: "scaling".to_owned(),
            program: Some(v1::submit_job_request::Program::Graph(graph)),
            ..Default::default()
        };
        let answer = self.client()?.submit_job(request).await?.into_inner();
        answer.job_ids.first().cloned().context("no job was made")
    }

    /// A job in short.
    pub async fn summary(&self, job_id: &str) -> anyhow::Result<v1::JobSummary> {
        let answer = self.client()?.list_jobs(v1::ListJobsRequest {}).await?;
        let mut jobs = answer.into_inner().jobs.into_iter();
        jobs.find(|job| job.job_id == job_id)
            .context("the job is not known")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.members.drain(..).flatten().for_each(kill);
    }
}

fn kill(member: Member) {
    member.runtime.shutdown_background();
    // Its Raft thread lives on without a way to anybody.
    std::mem::forget(member.handle);
}
