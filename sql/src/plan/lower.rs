//! Relations become operators with exchanges between them: a graph in which equal parts stand once.

use std::collections::HashMap;

use weir_dataflow::agg;
use weir_dataflow::schema::{decode_schema, encode_schema};
use weir_proto::v1::{self, Partitioning, operator::Kind, window_aggregate::Phase};

use super::describe::{
    aggregate_detail, condition_texts, over_detail, select_detail, window_detail,
};
use super::encode;
use super::rel::{
    Aggregate, Column, Over, Rel, RelOp, RelRef, Scan, Window, WindowProperty, WindowSource,
    row_schema,
};
use super::scan::{connector, key_places, physical_schema, read_schema};
use super::sink::SinkPlan;
use super::text;
use crate::error::{Result, SqlError};

/// Place of a [`Node`] in [`Lowering::nodes`]; inputs stand before their consumers.
pub(super) type NodeId = usize;

/// An operator to be.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub kind: Kind,
    /// Arrow IPC schema of what it emits; empty for a sink.
    pub schema: Vec<u8>,
    pub name: String,
    /// What it does, for EXPLAIN.
    pub detail: String,
    /// What its identity is made of, besides the conditions.
    pub meaning: String,
    /// What rows must fulfil to get through, one text a conjunct.
    pub conditions: Vec<String>,
    pub inputs: Vec<Input>,
    /// It must run as one subtask.
    pub single: bool,
    /// It emits updates and deletions.
    pub updating: bool,
    pub bounded: bool,
}

/// An edge into a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Input {
    pub from: NodeId,
    /// Which input of the node.
    pub target: u32,
    pub partitioning: Partitioning,
    pub keys: Vec<u32>,
}

/// What planning takes from the options.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub state_ttl_ms: u64,
    pub idle_timeout_ms: u64,
    /// 'table.exec.sink.not-null-enforcer' is DROP.
    pub drop_null_rows: bool,
    /// 'table.exec.sink.type-length-enforcer'
    pub length_enforcer: v1::sink::LengthEnforcer,
    /// 'pipeline.auto-watermark-interval'
    pub watermark_interval_ms: u64,
    pub two_phase: bool,
}

/// Collects the operators of all INSERTs of a job.
pub(super) struct Lowering {
    pub nodes: Vec<Node>,
    pub(super) settings: Settings,
    known: HashMap<String, NodeId>,
}

impl Lowering {
    pub fn new(settings: Settings) -> Self {
        Self {
            nodes: Vec::new(),
            settings,
            known: HashMap::new(),
        }
    }

    /// 'table.exec.state.ttl'; 0: for ever.
    pub fn state_ttl_ms(&self) -> u64 {
        self.settings.state_ttl_ms
    }

    /// The operators of one INSERT.
    pub fn sink(&mut self, plan: &SinkPlan) -> Result<()> {
        let inputs = self.lower(&plan.rel)?;
        let not_null = plan
            .columns
            .iter()
            .zip(&plan.rel.columns)
            .enumerate()
            .filter(|(_, ((wanted, _), given))| !wanted.field.nullable && given.field.nullable);
        let sink = v1::Sink {
            table: plan.table.clone(),
            connector: plan.connector.clone(),
            options: plan.options.clone(),
            schema: encode_schema(&read_schema(&plan.columns)),
            primary_key: encode::indexes(&plan.primary_key),
            not_null: not_null
                .map(|(position, _)| encode::index(position))
                .collect(),
            drop_null_rows: self.settings.drop_null_rows,
            length_enforcer: self.settings.length_enforcer.into(),
        };
        let columns: Vec<_> = (0..plan.rel.columns.len()).collect();
        let detail = format!(
            "table=[{}], connector=[{}], fields=[{}]",
            plan.table,
            plan.connector,
            text::names(&columns, &plan.rel.columns)
        );
        let single = self.are_single(&inputs);
        // Two INSERTs into one table are two sinks: no search for an equal one.
        self.nodes.push(Node {
            kind: Kind::Sink(sink),
            schema: Vec::new(),
            name: format!("Sink: {}", plan.table),
            detail,
            meaning: format!("{} {}", plan.table, plan.connector),
            conditions: Vec::new(),
            bounded: inputs.iter().all(|input| self.nodes[*input].bounded),
            inputs: forward(&inputs),
            single,
            updating: plan.rel.updating,
        });
        Ok(())
    }

    /// The operators of a relation; several for a UNION ALL.
    pub(super) fn lower(&mut self, rel: &RelRef) -> Result<Vec<NodeId>> {
        let node = match &rel.op {
            RelOp::Union { inputs } => {
                let mut nodes = Vec::with_capacity(inputs.len());
                for input in inputs {
                    nodes.extend(self.lower(input)?);
                }
                return Ok(nodes);
            }
            RelOp::Scan(scan) => self.scan(rel, scan)?,
            RelOp::Calc {
                input,
                filter,
                projection,
            } => {
                let inputs = self.lower(input)?;
                let calc = v1::Calc {
                    filter: filter
                        .as_ref()
                        .map(|filter| encode::expr(filter, &input.columns))
                        .transpose()?,
                    projection: encode::projection(projection, &input.columns, &rel.columns)?,
                };
                let select = select_detail(&calc);
                let detail = match &calc.filter {
                    Some(filter) => format!("{select}, where=[{}]", filter.text),
                    None => select.clone(),
                };
                Node {
                    meaning: select,
                    conditions: condition_texts(filter.as_ref(), &input.columns),
                    ..self.chained(rel, Kind::Calc(calc), "Calc", detail, &inputs)
                }
            }
            RelOp::WindowAssign { input, window } => {
                refuse_assignment(window)?;
                let inputs = self.lower(input)?;
                let assign = v1::WindowAssign {
                    window: Some(window_spec(window)),
                };
                let detail = window_detail(window, &input.columns);
                self.chained(
                    rel,
                    Kind::WindowAssign(assign),
                    "WindowAssign",
                    detail,
                    &inputs,
                )
            }
            RelOp::WindowAggregate {
                input,
                window,
                keys,
                aggregates,
                properties,
            } => self.window_aggregate(rel, input, window, (keys, aggregates, properties))?,
            RelOp::GroupAggregate {
                input,
                keys,
                aggregates,
            } => self.group_aggregate(rel, input, keys, aggregates)?,
            RelOp::Join(join) => self.join(rel, join)?,
            RelOp::Unnest(unnest) => self.unnest(rel, unnest)?,
            RelOp::ChangelogNormalize { input, key } => self.normalize(rel, input, key)?,
            RelOp::ChangelogConversion(conversion) => self.conversion(rel, conversion)?,
            RelOp::Over(over) => self.over(rel, over)?,
            RelOp::Rank(rank) => self.rank(rel, rank)?,
            RelOp::MatchRecognize(matching) => self.match_recognize(rel, matching)?,
            RelOp::Sort(sort) => self.sort(rel, sort)?,
        };
        Ok(vec![self.place(node)])
    }

    /// The place of a node; an equal one is used again.
    fn place(&mut self, node: Node) -> NodeId {
        let identity = format!("{:?} {:?} {:?}", node.kind, node.inputs, node.schema);
        if let Some(known) = self.known.get(&identity) {
            return *known;
        }
        self.nodes.push(node);
        self.known.insert(identity, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn scan(&mut self, rel: &Rel, scan: &Scan) -> Result<Node> {
        let read: Vec<Column> = scan.read.iter().map(|(column, _)| column.clone()).collect();
        let watermark = match &scan.watermark {
            Some(watermark) => Some(v1::WatermarkSpec {
                time_column: encode::index(watermark.column),
                expr: Some(encode::expr(&watermark.expr, &rel.columns)?),
                idle_timeout_ms: self.settings.idle_timeout_ms,
                // A reader of Kafka tells its watermark by the clock, in Flink, too.
                eager_interval_ms: (connector(&scan.table)? != "kafka")
                    .then_some(self.settings.watermark_interval_ms),
            }),
            None => None,
        };
        let passes = scan.projection.len() == read.len()
            && scan
                .projection
                .iter()
                .enumerate()
                .all(|(index, expr)| super::rel::as_input_ref(expr) == Some(index));
        let stored = physical_schema(&scan.table);
        let source = v1::Source {
            table: scan.table.name.clone(),
            connector: connector(&scan.table)?.to_owned(),
            options: scan.table.options.clone(),
            read_schema: encode_schema(&read_schema(&scan.read)),
            primary_key: key_places(&scan.table, &stored),
            table_schema: encode_schema(&stored),
            projection: if passes {
                Vec::new()
            } else {
                encode::projection(&scan.projection, &read, &rel.columns)?
            },
            filter: scan
                .filter
                .as_ref()
                .map(|filter| encode::expr(filter, &rel.columns))
                .transpose()?,
            watermark,
        };
        let mut detail = format!(
            "table=[{}], connector=[{}], read=[{}]",
            source.table,
            source.connector,
            text::shapes(&read)
        );
        if let Some(watermark) = source.watermark.as_ref().and_then(|w| w.expr.as_ref()) {
            detail.push_str(&format!(", watermark=[{}]", watermark.text));
        }
        if let Some(filter) = &source.filter {
            detail.push_str(&format!(", where=[{}]", filter.text));
        }
        Ok(Node {
            name: format!("Source: {}", source.table),
            // What is read of a table may change, its splits are the same.
            meaning: format!("{} {}", source.table, source.connector),
            conditions: condition_texts(scan.filter.as_ref(), &rel.columns),
            kind: Kind::Source(source),
            schema: encode::schema(&rel.columns),
            detail,
            inputs: Vec::new(),
            single: false,
            updating: rel.updating,
            bounded: scan.bounded,
        })
    }

    /// A node that takes its input as it comes.
    pub(super) fn chained(
        &self,
        rel: &Rel,
        kind: Kind,
        name: &str,
        detail: String,
        inputs: &[NodeId],
    ) -> Node {
        Node {
            kind,
            schema: encode::schema(&rel.columns),
            name: name.to_owned(),
            meaning: detail.clone(),
            conditions: Vec::new(),
            detail,
            inputs: forward(inputs),
            single: self.are_single(inputs),
            updating: rel.updating,
            bounded: inputs.iter().all(|input| self.nodes[*input].bounded),
        }
    }

    /// The first half of a two-phase aggregation, in the chain of its input; `schema` is what it hands to the second half.
    fn local_phase(
        &mut self,
        input: &Rel,
        kind: Kind,
        schema: &arrow::datatypes::Schema,
        detail: &str,
        inputs: &[NodeId],
    ) -> Vec<NodeId> {
        let name = match kind {
            Kind::WindowAggregate(_) => "LocalWindowAggregate",
            _ => "LocalGroupAggregate",
        };
        let node = Node {
            schema: encode_schema(schema),
            ..self.chained(input, kind, name, detail.to_owned(), inputs)
        };
        vec![self.place(node)]
    }

    fn are_single(&self, inputs: &[NodeId]) -> bool {
        inputs.iter().all(|input| self.nodes[*input].single)
    }

    /// A node behind an exchange by these columns; without columns it is a single subtask.
    pub(super) fn keyed(
        &self,
        rel: &Rel,
        kind: Kind,
        name: &str,
        detail: String,
        inputs: Vec<Input>,
    ) -> Node {
        Node {
            kind,
            schema: encode::schema(&rel.columns),
            name: name.to_owned(),
            meaning: detail.clone(),
            conditions: Vec::new(),
            detail,
            single: inputs
                .iter()
                .any(|input| input.partitioning == Partitioning::Global),
            bounded: inputs.iter().all(|input| self.nodes[input.from].bounded),
            inputs,
            updating: rel.updating,
        }
    }

    fn window_aggregate(
        &mut self,
        rel: &Rel,
        input: &RelRef,
        window: &WindowSource,
        (keys, aggregates, properties): (&[usize], &[Aggregate], &[WindowProperty]),
    ) -> Result<Node> {
        let mut inputs = self.lower(input)?;
        let mut aggregate = v1::WindowAggregate {
            key_columns: encode::indexes(keys),
            aggregates: calls(aggregates, &rel.columns[keys.len()..]),
            window_properties: properties.iter().map(|p| p.name().to_owned()).collect(),
            phase: Phase::Single.into(),
            ..Default::default()
        };
        let mut detail = match window {
            WindowSource::Assign(window) => {
                aggregate.window = Some(window_spec(window));
                window_detail(window, &input.columns)
            }
            WindowSource::Attached { start, end } => {
                aggregate.window_start_column = Some(encode::index(*start));
                aggregate.window_end_column = Some(encode::index(*end));
                "window=[attached]".to_owned()
            }
        };
        detail.push_str(&aggregate_detail(keys, aggregates, &input.columns));
        let local = local_schema(&aggregate, aggregates, window, input);
        if let Some(schema) = local {
            let mut local = aggregate.clone();
            local.phase = Phase::Local.into();
            local.window_properties = Vec::new();
            let kind = Kind::WindowAggregate(local);
            inputs = self.local_phase(input, kind, &schema, &detail, &inputs);
            aggregate.phase = Phase::Global.into();
            aggregate.key_columns = (0..encode::index(keys.len())).collect();
        }
        let name = match aggregate.phase() {
            Phase::Global => "GlobalWindowAggregate",
            _ => "WindowAggregate",
        };
        let inputs = exchange(&inputs, 0, &aggregate.key_columns);
        Ok(self.keyed(rel, Kind::WindowAggregate(aggregate), name, detail, inputs))
    }

    fn group_aggregate(
        &mut self,
        rel: &Rel,
        input: &RelRef,
        keys: &[usize],
        aggregates: &[Aggregate],
    ) -> Result<Node> {
        let mut inputs = self.lower(input)?;
        let mut aggregate = v1::GroupAggregate {
            key_columns: encode::indexes(keys),
            aggregates: calls(aggregates, &rel.columns[keys.len()..]),
            input_retracts: input.updating,
            emit_update_before: true,
            state_ttl_ms: self.settings.state_ttl_ms,
            phase: Phase::Single.into(),
        };
        let detail = aggregate_detail(keys, aggregates, &input.columns)
            .trim_start_matches(", ")
            .to_owned();
        let splits = self.settings.two_phase
            && !aggregates.is_empty()
            && !input.updating
            && aggregates.iter().all(|call| !call.distinct);
        if splits
            && let Ok(schema) =
                agg::group_local_output_schema(&aggregate, &row_schema(&input.columns))
        {
            let mut local = aggregate.clone();
            local.phase = Phase::Local.into();
            let kind = Kind::GroupAggregate(local);
            inputs = self.local_phase(input, kind, &schema, &detail, &inputs);
            aggregate.phase = Phase::Global.into();
            aggregate.key_columns = (0..encode::index(keys.len())).collect();
        }
        let name = match aggregate.phase() {
            Phase::Global => "GlobalGroupAggregate",
            _ => "GroupAggregate",
        };
        let inputs = exchange(&inputs, 0, &aggregate.key_columns);
        Ok(self.keyed(rel, Kind::GroupAggregate(aggregate), name, detail, inputs))
    }

    fn over(&mut self, rel: &Rel, over: &Over) -> Result<Node> {
        let spec = super::over::time_spec(over, &rel.columns)
            .map_err(|error| error.at_location(over.place))?;
        let inputs = self.lower(&over.input)?;
        let detail = over_detail(over);
        let inputs = exchange(&inputs, 0, &spec.partition_columns);
        let kind = Kind::OverAggregate(spec);
        Ok(self.keyed(rel, kind, "OverAggregate", detail, inputs))
    }

    /// Finds out who needs `-U` rows, and tells the aggregates. `sinks_need`: one a sink, in the order they were added.
    pub fn settle_update_before(&mut self, mut sinks_need: Vec<bool>) {
        let mut needed = vec![false; self.nodes.len()];
        for index in (0..self.nodes.len()).rev() {
            let mine = match &mut self.nodes[index].kind {
                Kind::Sink(_) => sinks_need.pop().unwrap_or(true),
                Kind::GroupAggregate(aggregate) => {
                    aggregate.emit_update_before = needed[index];
                    true
                }
                Kind::Deduplicate(deduplicate) => {
                    deduplicate.emit_update_before = needed[index];
                    false
                }
                Kind::ChangelogNormalize(normalize) => {
                    normalize.emit_update_before = needed[index];
                    false
                }
                Kind::Rank(rank) => {
                    rank.emit_update_before = needed[index];
                    true
                }
                Kind::OverAggregate(over) if over.order.is_some() => {
                    over.emit_update_before = needed[index];
                    true
                }
                // An update whose new row the filter drops must still take the old row away.
                Kind::Calc(calc) => needed[index] || calc.filter.is_some(),
                _ => true,
            };
            for input in self.nodes[index].inputs.clone() {
                needed[input.from] |= mine;
            }
        }
    }

    /// All sources end by themselves.
    pub fn bounded(&self) -> bool {
        self.nodes.iter().all(|node| node.bounded)
    }

    /// The schema of what a node emits.
    pub fn schema_of(&self, node: NodeId) -> Result<arrow::datatypes::SchemaRef> {
        decode_schema(&self.nodes[node].schema).map_err(|error| SqlError::new(error.to_string()))
    }
}

fn forward(inputs: &[NodeId]) -> Vec<Input> {
    let edge = |from: &NodeId| Input {
        from: *from,
        target: 0,
        partitioning: Partitioning::Forward,
        keys: Vec::new(),
    };
    inputs.iter().map(edge).collect()
}

/// By key; everything to one subtask if there is none.
pub(super) fn exchange(inputs: &[NodeId], target: u32, keys: &[u32]) -> Vec<Input> {
    let edge = |from: &NodeId| Input {
        from: *from,
        target,
        partitioning: if keys.is_empty() {
            Partitioning::Global
        } else {
            Partitioning::Hash
        },
        keys: keys.to_vec(),
    };
    inputs.iter().map(edge).collect()
}

/// Some windows are known only to an aggregate.
fn refuse_assignment(window: &Window) -> Result<()> {
    if window.kind == v1::WindowKind::Session {
        return Err(SqlError::unsupported(
            "SESSION that is not followed at once by a GROUP BY window_start, window_end and exactly the columns of its PARTITION BY",
        ));
    }
    if window.processing_time {
        return Err(SqlError::unsupported(
            "a window over processing time that is not followed at once by a GROUP BY window_start, window_end",
        ));
    }
    Ok(())
}

/// What the LOCAL phase emits, if the aggregate can be split in two.
fn local_schema(
    aggregate: &v1::WindowAggregate,
    calls: &[Aggregate],
    window: &WindowSource,
    input: &Rel,
) -> Option<arrow::datatypes::Schema> {
    let assigns = matches!(window, WindowSource::Assign(_));
    if !assigns || calls.iter().any(|call| call.distinct) {
        return None;
    }
    agg::local_output_schema(aggregate, &row_schema(&input.columns)).ok()
}

fn calls(aggregates: &[Aggregate], out: &[Column]) -> Vec<v1::AggregateCall> {
    aggregates
        .iter()
        .zip(out)
        .map(|(call, column)| v1::AggregateCall {
            function: call.function.clone(),
            arguments: encode::indexes(&call.arguments),
            distinct: call.distinct,
            filter: call.filter.map(encode::index),
            name: column.name.clone(),
        })
        .collect()
}

fn window_spec(window: &Window) -> v1::WindowSpec {
    v1::WindowSpec {
        kind: window.kind.into(),
        size_ms: window.size_ms,
        slide_ms: window.slide_ms,
        offset_ms: window.offset_ms,
        time_column: encode::index(window.time_column),
        processing_time: window.processing_time,
    }
}
