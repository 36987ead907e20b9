//! The descriptions of a job graph's operators.

use std::collections::BTreeMap;

use arrow::datatypes::{Field, Schema, SchemaRef};
use weir_dataflow::schema::{decode_schema, encode_schema};
use weir_dataflow::{Error, Result};
use weir_proto::v1;
use weir_proto::v1::operator::Kind;
use weir_proto::v1::window_aggregate::Phase;

use crate::{aggregate, join, match_recognize, over, row_store};

/// An operator of a graph with the schemas of its inputs.
pub(crate) struct Placed<'a> {
    pub operator: &'a v1::Operator,
    pub inputs: Vec<SchemaRef>,
    /// For a GLOBAL aggregation: what its LOCAL phase reads, of which the calls speak.
    pub local_input: Option<SchemaRef>,
}

/// Describes every operator of a graph that can have state, in the graph's order.
///
/// # Errors
/// If the graph is broken: a schema that can't be decoded, an aggregate that can't be computed.
pub fn describe(graph: &v1::JobGraph) -> Result<Vec<v1::OperatorDescription>> {
    let mut tails: BTreeMap<u32, Tail<'_>> = BTreeMap::new();
    let mut descriptions = Vec::new();
    for vertex in &graph.vertices {
        let mut inputs = input_schemas(graph, vertex.id)?;
        let mut local_input = local_input(graph, vertex.id, &tails);
        for operator in &vertex.chain {
            let output = decode(&operator.output_schema)?;
            let placed = Placed {
                operator,
                inputs: std::mem::replace(&mut inputs, vec![output]),
                local_input: local_input.take(),
            };
            descriptions.extend(describe_operator(&placed)?);
            if is_local(operator) {
                local_input = placed.inputs.first().cloned();
            }
            tails.insert(
                vertex.id,
                Tail {
                    operator,
                    input: placed.inputs.first().cloned(),
                },
            );
        }
    }
    Ok(descriptions)
}

/// The last operator of a vertex.
struct Tail<'a> {
    operator: &'a v1::Operator,
    input: Option<SchemaRef>,
}

fn input_schemas(graph: &v1::JobGraph, vertex: u32) -> Result<Vec<SchemaRef>> {
    let mut inputs: BTreeMap<u32, SchemaRef> = BTreeMap::new();
    for edge in graph.edges.iter().filter(|e| e.target_vertex == vertex) {
        inputs.insert(edge.target_input, decode(&edge.schema)?);
    }
    Ok(inputs.into_values().collect())
}

/// None at all is the schema without columns.
fn decode(schema: &[u8]) -> Result<SchemaRef> {
    match schema.is_empty() {
        true => Ok(SchemaRef::new(Schema::empty())),
        false => decode_schema(schema),
    }
}

fn local_input(
    graph: &v1::JobGraph,
    vertex: u32,
    tails: &BTreeMap<u32, Tail<'_>>,
) -> Option<SchemaRef> {
    let mut sources = graph.edges.iter().filter(|e| e.target_vertex == vertex);
    sources.find_map(|edge| {
        let tail = tails.get(&edge.source_vertex)?;
        is_local(tail.operator)
            .then(|| tail.input.clone())
            .flatten()
    })
}

fn is_local(operator: &v1::Operator) -> bool {
    match &operator.kind {
        Some(Kind::WindowAggregate(spec)) => spec.phase() == Phase::Local,
        Some(Kind::GroupAggregate(spec)) => spec.phase() == Phase::Local,
        _ => false,
    }
}

fn describe_operator(placed: &Placed<'_>) -> Result<Option<v1::OperatorDescription>> {
    let (kind, detail, tables) = match &placed.operator.kind {
        Some(Kind::Source(source)) => ("source", source.connector.clone(), Vec::new()),
        Some(Kind::Sink(sink)) => ("sink", sink.connector.clone(), Vec::new()),
        Some(Kind::WindowAggregate(spec)) if spec.phase() != Phase::Local => (
            "window-aggregate",
            aggregate::window_detail(spec),
            aggregate::window_tables(spec, placed)?,
        ),
        Some(Kind::GroupAggregate(spec)) if spec.phase() != Phase::Local => (
            "group-aggregate",
            String::new(),
            aggregate::group_tables(spec, placed)?,
        ),
        Some(Kind::WindowJoin(spec)) => (
            "window-join",
            join::window_join_detail(spec),
            join::window_join_tables(spec, placed)?,
        ),
        Some(Kind::Join(spec)) => (
            "join",
            join::join_detail(spec),
            join::join_tables(spec, placed)?,
        ),
        Some(Kind::OverAggregate(spec)) => (
            "over-aggregate",
            over::over_detail(spec, placed)?,
            over::over_tables(spec, placed)?,
        ),
        Some(Kind::Deduplicate(spec)) => (
            "deduplicate",
            row_store::deduplicate_detail(spec),
            row_store::deduplicate_tables(spec, placed)?,
        ),
        Some(Kind::ChangelogNormalize(spec)) => (
            "changelog-normalize",
            String::new(),
            row_store::normalize_tables(spec, placed)?,
        ),
        Some(Kind::WindowRank(spec)) => (
            "window-rank",
            row_store::order_text(&spec.order, placed)?,
            row_store::waiting_rows(&spec.partition_columns, placed)?,
        ),
        Some(Kind::Sort(spec)) => (
            "sort",
            row_store::order_text(&spec.order, placed)?,
            row_store::waiting_rows(&[], placed)?,
        ),
        Some(Kind::Rank(spec)) => (
            "rank",
            row_store::rank_detail(spec, placed)?,
            row_store::rank_tables(spec, placed)?,
        ),
        Some(Kind::MatchRecognize(spec)) => (
            "match-recognize",
            match_recognize::match_detail(spec),
            match_recognize::match_tables(spec, placed)?,
        ),
        Some(
            Kind::Calc(_)
            | Kind::Unnest(_)
            | Kind::ChangelogConversion(_)
            | Kind::WindowAssign(_)
            | Kind::WindowAggregate(_)
            | Kind::GroupAggregate(_),
        )
        | None => return Ok(None),
    };
    Ok(Some(v1::OperatorDescription {
        operator_uid: placed.operator.uid.clone(),
        operator_name: placed.operator.name.clone(),
        kind: kind.to_owned(),
        detail,
        lineage: placed.operator.lineage.clone(),
        tables,
    }))
}

/// A piece of a key or value.
pub(crate) fn field(encoding: v1::StateEncoding, columns: usize) -> v1::StateField {
    v1::StateField {
        encoding: encoding.into(),
        columns: columns as u32,
        constant: 0,
    }
}

/// A byte that is always the same.
pub(crate) fn constant(byte: u8) -> v1::StateField {
    v1::StateField {
        encoding: v1::StateEncoding::Constant.into(),
        columns: 0,
        constant: u32::from(byte),
    }
}

/// A schema of columns, of which no two have the same name.
pub(crate) fn schema_of(columns: Vec<Field>) -> Vec<u8> {
    let mut named: Vec<Field> = Vec::with_capacity(columns.len());
    for column in columns {
        let name = column.name().clone();
        let mut unique = name.clone();
        let mut number = 1;
        while named.iter().any(|other| *other.name() == unique) {
            number += 1;
            unique = format!("{name} #{number}");
        }
        named.push(column.with_name(unique));
    }
    encode_schema(&Schema::new(named))
}

/// A column of an operator's input.
pub(crate) fn input_field(schema: &Schema, column: usize) -> Result<&Field> {
    match schema.fields().get(column) {
        Some(field) => Ok(field),
        None => Err(Error::Config(format!(
            "column {column} of {} columns",
            schema.fields().len()
        ))),
    }
}
