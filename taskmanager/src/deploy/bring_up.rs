//! Opens a deployment's subtasks and connections side by side, then starts all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;
use tonic::Code;
use weir_common::backoff::Backoff;
use weir_common::ids::SubtaskId;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{Error, Result, SlotWaker};
use weir_proto::transport;
use weir_proto::v1;

use super::open::{Opened, Site};
use super::wiring::{ChannelKey, OutgoingStream, Wiring, targets_of};
use crate::attempt::Attempt;
use crate::chain::Chain;
use crate::channel::LocalSender;
use crate::exchange::send::{self, RemoteSender, describe};
use crate::input::{ChannelInput, InputChannel};
use crate::node::Node;
use crate::output::{ChannelSender, EdgeOutput, Outputs};
use crate::partition::Partitioner;
use crate::slot::{SlotCommand, guarded};
use crate::subtask::{Input, Subtask};

/// How long a peer may take to deploy its side of a stream.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);
/// Receive windows of a stream that carries batches.
const WINDOW_BYTES: u32 = 8 << 20;

/// A failure of one subtask.
type SubtaskFailure = (SubtaskId, Error);

/// Reports what fails. When the attempt is cancelled meanwhile, everything that was opened is closed and nothing is started.
pub async fn bring_up(
    node: Arc<Node>,
    attempt: Arc<Attempt>,
    site: Arc<Site>,
    wiring: Wiring,
    wakers: BTreeMap<SubtaskId, SlotWaker>,
) {
    let started = Instant::now();
    let Wiring {
        mut receivers,
        mut local,
        expected: _,
        outgoing,
    } = wiring;
    let connecting = connect_all(&node, &attempt, outgoing);
    let opening = open_all(&attempt, &site, &wakers);
    let (mut remote, mut opened) = match tokio::join!(connecting, opening) {
        (Ok(remote), Ok(opened)) if !attempt.cancel.is_cancelled() => (remote, opened),
        (Ok(_), Ok(opened)) => return give_up(&attempt, opened).await,
        (Err(failure), Ok(opened)) => {
            give_up(&attempt, opened).await;
            return attempt.report_failed(failure.0, failure.1);
        }
        (_, Err((subtask, error))) => return attempt.report_failed(subtask, error),
    };
    forget_copies(&node, &attempt, &site, opened.keys().copied().collect());
    for (id, member) in &attempt.members {
        let Some(opened) = opened.remove(id) else {
            continue;
        };
        let inputs = receivers.remove(id).unwrap_or_default();
        let subtask = outputs(&site, *id, &mut local, &mut remote)
            .map(|outputs| assemble(&attempt, &site, *id, opened, inputs, outputs));
        let handed_over = match (subtask, node.slots.get(member.slot)) {
            (Ok(subtask), Some(slot)) => slot
                .send(SlotCommand::Add(Box::new(subtask)))
                .await
                .map_err(|error| Error::Internal(error.to_string())),
            (Err(error), _) => Err(error),
            (_, None) => Err(Error::Internal(format!("no slot {}", member.slot))),
        };
        if let Err(error) = handed_over {
            return attempt.report_failed(*id, error);
        }
    }
    attempt.started.store(true, Ordering::Release);
    for id in attempt.members.keys() {
        attempt.report_running(*id);
    }
    tracing::info!(
        job = %attempt.key.job, attempt = attempt.key.attempt.0, subtasks = attempt.members.len(),
        took_ms = started.elapsed().as_millis() as u64, "subtasks run"
    );
}

/// Beside the start of the subtasks, which have what they need of the local copies.
fn forget_copies(node: &Arc<Node>, attempt: &Attempt, site: &Arc<Site>, own: Vec<SubtaskId>) {
    let (node, site) = (Arc::clone(node), Arc::clone(site));
    attempt.tracker.spawn_blocking(move || {
        node.forget_jobs();
        site.forget_copies(&own);
    });
}

async fn give_up(attempt: &Arc<Attempt>, opened: HashMap<SubtaskId, Opened>) {
    let closing = attempt.tracker.spawn_blocking(move || {
        for mut subtask in opened.into_values() {
            // A panic while closing changes nothing any more.
            let _ = guarded(|| {
                subtask.close();
                Ok(())
            });
        }
    });
    if closing.await.is_err() {
        tracing::warn!("closing subtasks was interrupted");
    }
}

/// Opens all subtasks, each on a thread of its own. When one fails, the others are closed.
async fn open_all(
    attempt: &Arc<Attempt>,
    site: &Arc<Site>,
    wakers: &BTreeMap<SubtaskId, SlotWaker>,
) -> std::result::Result<HashMap<SubtaskId, Opened>, SubtaskFailure> {
    let started: Vec<_> = wakers
        .iter()
        .map(|(id, waker)| {
            let (site, id, waker) = (Arc::clone(site), *id, waker.clone());
            let work = move || guarded(|| site.open(id, &waker));
            (id, attempt.tracker.spawn_blocking(work))
        })
        .collect();
    let mut opened = HashMap::new();
    let mut failure = None;
    for (id, work) in started {
        let result = work.await;
        match result.unwrap_or_else(|error| Err(Error::Internal(error.to_string()))) {
            Ok(subtask) => {
                opened.insert(id, subtask);
            }
            Err(error) => {
                failure.get_or_insert((id, error));
            }
        }
    }
    match failure {
        None => Ok(opened),
        Some(failure) => {
            give_up(attempt, opened).await;
            Err(failure)
        }
    }
}

type RemoteSenders = HashMap<ChannelKey, RemoteSender>;

async fn connect_all(
    node: &Arc<Node>,
    attempt: &Arc<Attempt>,
    streams: Vec<OutgoingStream>,
) -> std::result::Result<RemoteSenders, SubtaskFailure> {
    let all = streams
        .into_iter()
        .map(|stream| connect(node, attempt, stream));
    tokio::select! {
        () = attempt.cancel.cancelled() => Ok(RemoteSenders::new()),
        connected = try_join_all(all) => Ok(connected?.into_iter().flatten().collect()),
    }
}

async fn connect(
    node: &Arc<Node>,
    attempt: &Arc<Attempt>,
    stream: OutgoingStream,
) -> std::result::Result<Vec<(ChannelKey, RemoteSender)>, SubtaskFailure> {
    let producers: Vec<SubtaskId> = stream.channels.iter().map(|(_, id, _)| *id).collect();
    let blame = producers.first().copied().unwrap_or(SubtaskId {
        vertex: weir_common::ids::VertexId(0),
        index: 0,
    });
    let failed = |message: String| {
        let message = format!(
            "cannot connect to task manager {} at {}: {message}",
            stream.to.task_manager, stream.to.address
        );
        let error = Error::External {
            system: "exchange",
            message,
        };
        (blame, error)
    };
    let endpoint = transport::endpoint(&stream.to.address, node.tls.as_ref())
        .map_err(|error| failed(error.to_string()))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_lazy();
    let targets: Vec<_> = stream
        .channels
        .iter()
        .map(|(channel, _, waker)| (*channel, waker.clone()))
        .collect();
    let deadline = Instant::now() + PEER_TIMEOUT;
    let mut failures = 0;
    let (senders, pump) = loop {
        let header = v1::ExchangeHeader {
            fence: Some(attempt.fence.clone()),
            edge: stream.edge,
            producer_task_manager_id: attempt.task_manager.clone(),
        };
        match tokio::time::timeout_at(deadline, send::open(endpoint.clone(), header, &targets))
            .await
        {
            Ok(Ok(open)) => break open,
            Err(_) => return Err(failed("it does not answer".to_owned())),
            Ok(Err(status)) => {
                let lasting = status.code() == Code::FailedPrecondition;
                if lasting || Instant::now() >= deadline {
                    return Err(failed(describe(&status)));
                }
                failures += 1;
                let pause = Backoff::CALLS.delay_jittered(failures);
                tokio::time::sleep(pause.min(Duration::from_millis(500))).await;
            }
        }
    };
    let (own, peer) = (Arc::clone(attempt), Arc::clone(node));
    attempt.spawn(async move {
        let error = pump.run().await;
        if !own.have_ended(&producers) {
            peer.fail_subtasks(&own, producers, &error).await;
        }
    });
    let keyed = stream
        .channels
        .iter()
        .zip(senders)
        .map(|((channel, _, _), sender)| ((stream.edge, channel.source, channel.target), sender));
    Ok(keyed.collect())
}

/// The outgoing edges of a subtask.
fn outputs(
    site: &Site,
    subtask: SubtaskId,
    local: &mut HashMap<ChannelKey, LocalSender>,
    remote: &mut RemoteSenders,
) -> Result<Outputs> {
    let graph = &site.graph;
    let mut edges = Vec::new();
    let own = graph
        .edges
        .iter()
        .filter(|e| e.source_vertex == subtask.vertex.0);
    for edge in own {
        let targets = targets_of(graph, edge, subtask.index)?;
        let channels: Vec<_> = targets
            .map(|target| {
                let key = (edge.id, subtask.index, target);
                let here = local.remove(&key).map(ChannelSender::Local);
                here.or_else(|| {
                    remote
                        .remove(&key)
                        .map(|s| ChannelSender::Remote(Box::new(s)))
                })
                .ok_or_else(|| Error::Internal(format!("channel {key:?} was not connected")))
            })
            .collect::<Result<_>>()?;
        let schema = decode_schema(&edge.schema)?;
        let partitioner = Partitioner::new(
            edge,
            &schema,
            subtask.index,
            channels.len(),
            graph.max_parallelism,
        )?;
        edges.push(EdgeOutput::new(partitioner, channels));
    }
    Ok(Outputs::new(edges))
}

fn assemble(
    attempt: &Arc<Attempt>,
    site: &Site,
    id: SubtaskId,
    opened: Opened,
    inputs: Vec<InputChannel>,
    outputs: Outputs,
) -> Subtask {
    let input = match opened.source {
        Some((info, source)) => Input::Source {
            info,
            source,
            idle: false,
        },
        None => Input::Channels(Box::new(ChannelInput::new(inputs, opened.in_flight))),
    };
    let chain = Chain::new(opened.operators.into(), outputs);
    let meter = match attempt.members.get(&id) {
        Some(member) => Arc::clone(&member.meter),
        None => Arc::new(crate::meter::Meter::new(&site.job, "", id)),
    };
    let events = attempt.events();
    let clock = site.clock.clone();
    Subtask::new(attempt.key.clone(), id, input, chain, meter, events, clock)
}
