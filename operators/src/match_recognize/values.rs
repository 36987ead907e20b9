//! What conditions and measures read of a match: the first or last rows of a variable, or of all, and aggregates over its rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::collect_columns;
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{Error, Result};
use weir_proto::v1;
use weir_proto::v1::match_value::Pick;

use super::partitions::Partition;
use super::pattern::Run;
use crate::accumulator::{Accumulators, AggregatePlan, PlanInput, results};
use crate::calc::{decode, expression_error};

/// One value.
struct Value {
    /// `None`: of all.
    variable: Option<usize>,
    from: From,
}

enum From {
    /// A column of the row so far behind the first.
    First(u64, usize),
    /// A column of the row so far in front of the last.
    Last(u64, usize),
    Aggregate(Box<AggregatePlan>),
}

/// All values of a pattern.
pub struct Values {
    /// The columns of the input that they read.
    columns: Vec<usize>,
    read: SchemaRef,
    encoder: KeyEncoder,
    values: Vec<Value>,
    pub schema: SchemaRef,
    nulls: Vec<ArrayRef>,
}

/// A variable's DEFINE.
pub struct Condition {
    expr: Arc<dyn PhysicalExpr>,
    /// The values that it reads.
    needed: Vec<usize>,
    /// It reads the new row only, so that it can be found for many rows at once.
    pub is_local: bool,
}

impl Values {
    pub fn new(spec: &v1::MatchRecognize, input: &SchemaRef) -> Result<Self> {
        // What a condition does not read is left out as NULL.
        let fields = decode_schema(&spec.value_schema)?;
        let fields = fields.fields().iter();
        let nullable = fields.map(|field| field.as_ref().clone().with_nullable(true));
        let schema: SchemaRef = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let mut columns: Vec<usize> = Vec::new();
        for column in spec.values.iter().flat_map(|value| &value.columns) {
            let column = *column as usize;
            if column >= input.fields().len() {
                return Err(Error::Config(format!("the input has no column {column}")));
            }
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let read: SchemaRef = Arc::new(input.project(&columns)?);
        let place = |column: u32| {
            let column = column as usize;
            columns.iter().position(|known| *known == column)
        };
        let values = spec
            .values
            .iter()
            .zip(schema.fields())
            .map(|(value, field)| {
                let column = value.columns.first().and_then(|column| place(*column));
                let picked = column.ok_or_else(|| Error::Config("a value of no column".to_owned()));
                let offset = u64::from(value.offset);
                Ok(Value {
                    variable: value.variable.map(|variable| variable as usize),
                    from: match value.pick() {
                        Pick::First => From::First(offset, picked?),
                        Pick::Last => From::Last(offset, picked?),
                        Pick::Aggregate => {
                            let places = value.columns.iter().filter_map(|column| place(*column));
                            let call = v1::AggregateCall {
                                function: value.function.clone(),
                                arguments: places.map(|place| place as u32).collect(),
                                ..v1::AggregateCall::default()
                            };
                            From::Aggregate(Box::new(AggregatePlan::new(PlanInput {
                                calls: &[call],
                                input: &read,
                                outputs: vec![field.data_type().clone()],
                                retracts: false,
                                global: false,
                            })?))
                        }
                        Pick::Unspecified => {
                            return Err(Error::Config("a value of an unknown kind".to_owned()));
                        }
                    },
                })
            });
        let values = values.collect::<Result<Vec<_>>>()?;
        let all: Vec<usize> = (0..columns.len()).collect();
        Ok(Self {
            encoder: KeyEncoder::new(&read, &all)?,
            nulls: schema
                .fields()
                .iter()
                .map(|field| new_null_array(field.data_type(), 1))
                .collect(),
            columns,
            read,
            values,
            schema,
        })
    }

    /// The condition of a variable.
    pub fn condition(&self, expr: &v1::Expr, variable: usize) -> Result<Condition> {
        let expr = decode(expr, &self.schema)?;
        let needed: Vec<usize> = collect_columns(&expr)
            .iter()
            .map(datafusion_physical_expr::expressions::Column::index)
            .collect();
        let is_local = needed.iter().all(|value| {
            let value = &self.values[*value];
            let is_own = value.variable.is_none_or(|of| of == variable);
            is_own && matches!(value.from, From::Last(0, _))
        });
        Ok(Condition {
            expr,
            needed,
            is_local,
        })
    }

    /// The columns of rows that are read later.
    pub fn narrow(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        Ok(rows.project(&self.columns)?)
    }

    /// Rows as they are kept.
    pub fn encoder(&self) -> &KeyEncoder {
        &self.encoder
    }

    /// Whether a local condition holds, for each of some rows (see [`Self::narrow`]).
    pub fn test_rows(&self, condition: &Condition, rows: &RecordBatch) -> Result<BooleanArray> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.values.len());
        for (value, field) in self.values.iter().zip(self.schema.fields()) {
            columns.push(match value.from {
                From::Last(0, column) => rows.column(column).clone(),
                _ => new_null_array(field.data_type(), rows.num_rows()),
            });
        }
        self.evaluate(condition, columns, rows.num_rows())
    }

    /// Whether a condition holds for a run.
    pub fn test(&self, condition: &Condition, partition: &Partition, run: &Run) -> Result<bool> {
        let mut columns = self.nulls.clone();
        let mut rows = Decoded::default();
        for value in &condition.needed {
            columns[*value] = self.value(*value, partition, run, &mut rows)?;
        }
        let holds = self.evaluate(condition, columns, 1)?;
        Ok(holds.value(0))
    }

    /// NULL is not true.
    fn evaluate(
        &self,
        condition: &Condition,
        columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<BooleanArray> {
        let batch = self.batch(columns, rows)?;
        weir_expr::eval::evaluate_predicate(condition.expr.as_ref(), &batch)
            .map_err(expression_error)
    }

    /// All values of a match, as one row of [`Self::schema`].
    pub fn of_match(&self, partition: &Partition, run: &Run) -> Result<RecordBatch> {
        let mut rows = Decoded::default();
        let columns = (0..self.values.len())
            .map(|value| self.value(value, partition, run, &mut rows))
            .collect::<Result<_>>()?;
        self.batch(columns, 1)
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }

    fn value(
        &self,
        value: usize,
        partition: &Partition,
        run: &Run,
        decoded: &mut Decoded,
    ) -> Result<ArrayRef> {
        let of = &self.values[value];
        let mut rows = run.rows(of.variable);
        let (row, column) = match &of.from {
            From::First(offset, column) => (rows.nth(*offset as usize), *column),
            From::Last(offset, column) => (rows.nth_back(*offset as usize), *column),
            From::Aggregate(plan) => {
                let bytes: Vec<&[u8]> = rows.filter_map(|row| partition.row(row)).collect();
                return aggregate(plan, &self.decode(&bytes)?);
            }
        };
        let Some(bytes) = row.and_then(|row| partition.row(row)) else {
            return Ok(self.nulls[value].clone());
        };
        if let Some((_, columns)) = decoded.0.iter().find(|(known, _)| Some(*known) == row) {
            return Ok(columns[column].clone());
        }
        let columns = self.encoder.decode(&[bytes])?;
        let found = columns[column].clone();
        decoded.0.push((row.unwrap_or_default(), columns));
        Ok(found)
    }

    fn decode(&self, rows: &[&[u8]]) -> Result<RecordBatch> {
        let columns = self.encoder.decode(rows)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(
            self.read.clone(),
            columns,
            &options,
        )?)
    }

    /// What must stay the same for the kept rows to be read.
    pub fn fingerprint(&self) -> String {
        let types: Vec<String> = self
            .encoder
            .types()
            .iter()
            .map(DataType::to_string)
            .collect();
        types.join(", ")
    }
}

/// Rows of a run that were decoded for an earlier value.
#[derive(Default)]
struct Decoded(Vec<(u64, Vec<ArrayRef>)>);

fn aggregate(plan: &AggregatePlan, rows: &RecordBatch) -> Result<ArrayRef> {
    let mut accumulators = Accumulators::new(plan)?;
    accumulators.grow(1);
    let slots = vec![0; rows.num_rows()];
    let prepared = accumulators.prepare(plan, rows, None, &slots)?;
    accumulators.apply(plan, rows, &prepared, &slots)?;
    let mut found = results(plan, &accumulators.partials(&[0])?)?;
    found
        .pop()
        .ok_or_else(|| Error::Internal("an aggregate has no result".to_owned()))
}
