//! Builds and opens the operators of one subtask, on a thread that may block: restores keyed state, opens connectors, commits what a
//! restored snapshot had prepared.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use tokio::runtime::Handle;
use weir_common::clock::Clock;
use weir_common::config::S3Config;
use weir_common::ids::{AttemptId, JobId, SubtaskId};
use weir_common::key_group::hash_key;
use weir_connectors::{SinkContext, SourceContext};
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{
    Batch, Error, KeyedState, OpenContext, Operator, OperatorInfo, Result, SinkWriter, SlotWaker,
    SourceReader,
};
use weir_layout::Migration;
use weir_operators::sink::SinkOperator;
use weir_operators::source::{SPLITS, SourceOperator};
use weir_proto::v1;
use weir_proto::v1::operator::Kind;
use weir_snapshot::rescale::keyed_parts;
use weir_state::{LocalCopies, PartedState, RestoreSource, StateMemory, StateOptions};

use super::restore::{Share, check_schema, share};
use super::wiring::vertex;
use crate::backend::{KeyedBackend, NoState, RocksBackend, SnapshotTargets};
use crate::chain::ChainedOperator;

/// Opens what is outside of Weir. Tests have their own.
pub trait Connectors: Send + Sync {
    /// A reader for one subtask.
    fn open_source(
        &self,
        spec: &v1::Source,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader>>;

    /// A writer for one subtask.
    fn open_sink(&self, spec: &v1::Sink, context: SinkContext) -> Result<Box<dyn SinkWriter>>;
}

/// Those of `weir-connectors`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardConnectors;

impl Connectors for StandardConnectors {
    fn open_source(
        &self,
        spec: &v1::Source,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader>> {
        weir_connectors::open_source(spec, context)
    }

    fn open_sink(&self, spec: &v1::Sink, context: SinkContext) -> Result<Box<dyn SinkWriter>> {
        weir_connectors::open_sink(spec, context)
    }
}

/// The snapshot that an attempt starts from.
pub struct Restore {
    /// What is in it.
    pub manifest: v1::Manifest,
    /// Where its files are.
    pub source: RestoreSource,
    /// What the graph's operators keep.
    pub wanted: Vec<v1::OperatorDescription>,
}

/// What all subtasks of a deployment share.
pub struct Site {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: AttemptId,
    /// The graph.
    pub graph: v1::JobGraph,
    /// Of the graph.
    pub options: Arc<BTreeMap<String, String>>,
    /// The snapshot to start from.
    pub restore: Option<Restore>,
    /// Where snapshots go.
    pub targets: Arc<SnapshotTargets>,
    /// The attempt's own folder.
    pub folder: PathBuf,
    /// Shared by the process.
    pub memory: Arc<StateMemory>,
    /// Files of the job's checkpoints on this machine.
    pub copies: Option<Arc<LocalCopies>>,
    /// For the caches of one stateful operator.
    pub operator_bytes: usize,
    /// Wall clock.
    pub clock: Clock,
    /// Access to object stores.
    pub s3: S3Config,
    /// Opens what is outside.
    pub connectors: Arc<dyn Connectors>,
    /// Where connectors' asynchronous I/O runs.
    pub runtime: Handle,
}

/// An opened chain.
pub struct Opened {
    /// The head, if it is a source.
    pub source: Option<(OperatorInfo, Box<SourceOperator>)>,
    /// The others.
    pub operators: VecDeque<ChainedOperator>,
    /// Batches that the restored snapshot holds in flight to the subtask, each with its input.
    pub in_flight: Vec<(usize, Batch)>,
}

impl Opened {
    /// Closes what was opened.
    pub fn close(&mut self) {
        if let Some((_, source)) = &mut self.source {
            source.close();
        }
        for operator in &mut self.operators {
            operator.operator.close();
        }
    }
}

/// Whether the operator keeps state by key.
pub fn is_stateful(operator: &v1::Operator) -> bool {
    matches!(
        operator.kind,
        Some(
            Kind::WindowAggregate(_)
                | Kind::GroupAggregate(_)
                | Kind::WindowJoin(_)
                | Kind::Join(_)
                | Kind::OverAggregate(_)
                | Kind::Deduplicate(_)
                | Kind::ChangelogNormalize(_)
                | Kind::Rank(_)
                | Kind::MatchRecognize(_)
                | Kind::WindowRank(_)
                | Kind::Sort(_)
        )
    )
}

impl Site {
    /// Opens all operators of a subtask. Blocks.
    ///
    /// # Errors
    /// The first operator's that can't be opened; those before it are closed again.
    pub fn open(&self, subtask: SubtaskId, waker: &SlotWaker) -> Result<Opened> {
        let mut opened = Opened {
            source: None,
            operators: VecDeque::new(),
            in_flight: Vec::new(),
        };
        match self.open_into(subtask, waker, &mut opened) {
            Ok(()) => Ok(opened),
            Err(error) => {
                opened.close();
                Err(error)
            }
        }
    }

    /// Removes the local copies of which these subtasks, all of the job's that run here, need none. Blocks.
    pub fn forget_copies(&self, subtasks: &[SubtaskId]) {
        let Some(copies) = &self.copies else {
            return;
        };
        let mut needed = Vec::new();
        for subtask in subtasks {
            let (Some(from), Ok(vertex)) = (&self.restore, vertex(&self.graph, subtask.vertex.0))
            else {
                continue;
            };
            for operator in &vertex.chain {
                let info = self.info(vertex, operator, subtask.index);
                needed.extend(keyed_parts(&from.manifest, &info.uid, info.key_groups()));
            }
        }
        let files = needed.into_iter().flat_map(|part| &part.files);
        copies.retain(files.map(|file| file.path.as_str()));
    }

    fn open_into(&self, subtask: SubtaskId, waker: &SlotWaker, opened: &mut Opened) -> Result<()> {
        let vertex = vertex(&self.graph, subtask.vertex.0)?;
        opened.in_flight = self.restored_in_flight(vertex, subtask.index)?;
        let mut inputs = self.input_schemas(vertex.id)?;
        let mut links = Vec::new();
        for operator in &vertex.chain {
            let output = match operator.output_schema.is_empty() {
                true => Arc::new(Schema::empty()),
                false => decode_schema(&operator.output_schema)?,
            };
            let next = vec![Arc::clone(&output)];
            links.push((operator, std::mem::replace(&mut inputs, next), output));
        }
        // From the last to the first: a sink connects while the state in front of it is restored.
        for (position, (operator, inputs, output)) in links.into_iter().enumerate().rev() {
            let info = self.info(vertex, operator, subtask.index);
            let mut share = self.share(&info);
            let migration = self.migration(&info, &mut share)?;
            let context = self.context(&info, inputs, &output, &share, waker);
            match &operator.kind {
                Some(Kind::Source(spec)) if position == 0 => {
                    let source = self.open_source(spec, &context)?;
                    opened.source = Some((info, source));
                }
                Some(Kind::Source(_)) => {
                    return Err(Error::Config(format!(
                        "source '{}' stands behind another operator",
                        operator.name
                    )));
                }
                _ => {
                    let chained =
                        self.open_operator(operator, info, context, &share, migration.as_ref())?;
                    opened.operators.push_front(chained);
                }
            }
        }
        Ok(())
    }

    /// The schema of each input of a vertex, by its number.
    fn input_schemas(&self, vertex: u32) -> Result<Vec<SchemaRef>> {
        let mut inputs: BTreeMap<u32, SchemaRef> = BTreeMap::new();
        for edge in self
            .graph
            .edges
            .iter()
            .filter(|e| e.target_vertex == vertex)
        {
            inputs.insert(edge.target_input, decode_schema(&edge.schema)?);
        }
        Ok(inputs.into_values().collect())
    }

    fn info(&self, vertex: &v1::Vertex, operator: &v1::Operator, index: u32) -> OperatorInfo {
        OperatorInfo {
            job: self.job.clone(),
            job_name: self.graph.name.as_str().into(),
            attempt: self.attempt,
            uid: operator.uid.as_str().into(),
            name: operator.name.as_str().into(),
            subtask: index,
            parallelism: vertex.parallelism,
            max_parallelism: self.graph.max_parallelism,
        }
    }

    fn share(&self, info: &OperatorInfo) -> Share {
        self.restore.as_ref().map_or_else(Share::default, |from| {
            share(
                &from.manifest,
                &info.uid,
                info.subtask,
                info.parallelism,
                info.key_groups(),
            )
        })
    }

    fn migration(&self, info: &OperatorInfo, share: &mut Share) -> Result<Option<Migration>> {
        let wanted = self.restore.as_ref().and_then(|from| {
            let same = |new: &&v1::OperatorDescription| *new.operator_uid == *info.uid;
            from.wanted.iter().find(same)
        });
        share.migration(wanted)
    }

    fn context(
        &self,
        info: &OperatorInfo,
        input_schemas: Vec<SchemaRef>,
        output: &SchemaRef,
        share: &Share,
        waker: &SlotWaker,
    ) -> OpenContext {
        OpenContext {
            info: info.clone(),
            input_schemas,
            output_schema: Arc::clone(output),
            restored: share.states.clone(),
            is_restored: self.restore.is_some(),
            waker: waker.clone(),
            clock: self.clock.clone(),
            memory_bytes: self.operator_bytes,
            job_options: Arc::clone(&self.options),
            s3: self.s3.clone(),
        }
    }

    fn open_source(&self, spec: &v1::Source, context: &OpenContext) -> Result<Box<SourceOperator>> {
        let schema = decode_schema(&spec.read_schema)?;
        let splits = context.restored.get(SPLITS).to_vec();
        let source = SourceContext::new(context, schema, splits, self.runtime.clone());
        let reader = self.connectors.open_source(spec, source)?;
        let mut operator = Box::new(SourceOperator::new(spec.clone(), reader));
        match operator.open(context) {
            Ok(()) => Ok(operator),
            Err(error) => {
                operator.close();
                Err(error)
            }
        }
    }

    fn open_operator(
        &self,
        spec: &v1::Operator,
        info: OperatorInfo,
        context: OpenContext,
        share: &Share,
        migration: Option<&Migration>,
    ) -> Result<ChainedOperator> {
        let mut operator: Box<dyn Operator> = match &spec.kind {
            Some(Kind::Sink(sink)) => {
                let schema = decode_schema(&sink.schema)?;
                let own = SinkContext::new(&context, schema, self.runtime.clone());
                let writer = self.connectors.open_sink(sink, own)?;
                Box::new(SinkOperator::new(sink.clone(), writer)?)
            }
            _ => weir_operators::create(spec)?,
        };
        let old_schema = share.state_schema.as_deref();
        check_schema(&info.name, old_schema, &operator.state_schema())?;
        let mut state = self.open_state(spec, &info, share)?;
        let keyed: &mut dyn KeyedState = state.as_mut();
        if let Some(migration) = migration {
            migration.run(keyed)?;
        }
        let result = operator.open(context, keyed);
        // Some operators know the layout only now; a layout that does not fit explains why they could not be opened.
        let checked = check_schema(&info.name, old_schema, &operator.state_schema()).and(result);
        if let Err(error) = checked {
            operator.close();
            return Err(error);
        }
        Ok(ChainedOperator {
            info,
            operator,
            state,
            writing: false,
        })
    }

    fn open_state(
        &self,
        spec: &v1::Operator,
        info: &OperatorInfo,
        share: &Share,
    ) -> Result<Box<dyn KeyedBackend>> {
        let key_groups = info.key_groups();
        if !is_stateful(spec) {
            return Ok(Box::new(NoState::new(&info.name, key_groups)));
        }
        let options = StateOptions {
            folder: self.folder.join(format!(
                "{:016x}-{}",
                hash_key(info.uid.as_bytes()),
                info.subtask
            )),
            key_groups,
            memory: Arc::clone(&self.memory),
            copies: self.copies.clone(),
        };
        let state = match &self.restore {
            Some(from) if !share.keyed.is_empty() => {
                PartedState::restore(options, &share.keyed, &from.source, &self.targets.transfers)?
            }
            _ => PartedState::open(options)?,
        };
        Ok(Box::new(RocksBackend::new(
            state,
            Arc::clone(&self.targets),
        )))
    }
}
