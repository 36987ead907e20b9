//! `weir jobmanager add | remove | list`: who the job managers of a cluster are.

use std::time::Duration;

use weir_common::config::Config;
use weir_proto::v1;

use crate::args::{MembersCommand, OutputFormat};
use crate::client::JobClient;
use crate::commands::table;

/// A new job manager has to come up and to catch up.
const ADD_TIMEOUT: Duration = Duration::from_secs(45);
/// A leader that is removed hands over first.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(15);
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn run(config: &Config, command: MembersCommand) -> anyhow::Result<()> {
    match command {
        MembersCommand::Add {
            member: (id, address),
            cluster,
        } => {
            let mut client = JobClient::new(config, &cluster.jobmanager)?;
            let request = v1::AddJobManagerRequest { id, address };
            client
                .call(ADD_TIMEOUT, async |mut client| {
                    client.add_job_manager(request.clone()).await.map(drop)
                })
                .await
        }
        MembersCommand::Remove { id, cluster } => {
            let mut client = JobClient::new(config, &cluster.jobmanager)?;
            let request = v1::RemoveJobManagerRequest { id };
            client
                .call(REMOVE_TIMEOUT, async |mut client| {
                    client.remove_job_manager(request).await.map(drop)
                })
                .await
        }
        MembersCommand::List(cluster) => {
            let mut client = JobClient::new(config, &cluster.jobmanager)?;
            let answer = client
                .call(LIST_TIMEOUT, async |mut client| {
                    let answer = client.get_cluster(v1::GetClusterRequest {}).await?;
                    Ok(answer.into_inner())
                })
                .await?;
            print(cluster.format, &answer);
            Ok(())
        }
    }
}

fn print(format: OutputFormat, cluster: &v1::GetClusterResponse) {
    let mut table = table(&["ID", "ADDRESS", "ROLE", "STATE"]);
    for member in &cluster.job_manager_infos {
        let role = match (member.voter, member.address == cluster.leader) {
            (_, true) => "leader",
            (true, false) => "voter",
            (false, false) => "learner",
        };
        let state = if member.active { "up" } else { "silent" };
        if format == OutputFormat::Json {
            println!(
                "{}",
                serde_json::json!({
                    "id": member.id, "address": member.address, "role": role, "state": state
                })
            );
        }
        table.add_row([
            member.id.to_string(),
            member.address.clone(),
            role.to_owned(),
            state.to_owned(),
        ]);
    }
    if format == OutputFormat::Text {
        println!("{table}");
    }
}
