//! UNNEST: a copy of each row for each element of a collection in one of its columns, or as often as a number in it says. Stateless, keeps
//! the kinds of rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use weir_dataflow::{Batch, Context, Error, KeyedState, OpenContext, Operator, Result};
use weir_proto::v1;

/// See [`v1::Unnest`].
pub struct UnnestOperator {
    spec: v1::Unnest,
    output: Option<SchemaRef>,
}

/// Elements of the collections of a batch: the row of each, its place among the elements of all rows, and its number in its row.
#[derive(Default)]
struct Elements {
    rows: Vec<u32>,
    places: Vec<Option<u32>>,
    numbers: Vec<Option<i32>>,
}

impl UnnestOperator {
    /// For an ARRAY, MAP, MULTISET or BIGINT column.
    pub fn new(spec: &v1::Unnest) -> Self {
        Self {
            spec: *spec,
            output: None,
        }
    }

    /// The elements, and the columns that they lie in.
    fn elements(&self, collection: &ArrayRef) -> Result<(Elements, Vec<ArrayRef>)> {
        let mut elements = Elements::default();
        let outer = self.spec.outer;
        match collection.data_type() {
            DataType::List(_) => {
                let list = collection.as_list::<i32>();
                elements.collect(list.offsets(), list.nulls(), outer, |_| 1);
                Ok((elements, fields(list.values())))
            }
            DataType::Map(..) => {
                let map = collection.as_map();
                if !self.spec.multiset {
                    elements.collect(map.offsets(), map.nulls(), outer, |_| 1);
                    return Ok((elements, vec![map.keys().clone(), map.values().clone()]));
                }
                let counts = map.values().as_primitive_opt::<Int32Type>();
                let counts = counts
                    .ok_or_else(|| Error::Internal("a MULTISET without numbers".to_owned()))?;
                elements.collect(map.offsets(), map.nulls(), outer, |at| counts.value(at));
                Ok((elements, fields(map.keys())))
            }
            DataType::Int64 => {
                for (row, times) in collection.as_primitive::<Int64Type>().iter().enumerate() {
                    elements.repeat(row as u32, times.unwrap_or_default());
                }
                Ok((elements, Vec::new()))
            }
            other => Err(Error::Config(format!("UNNEST of a column of type {other}"))),
        }
    }
}

impl Elements {
    /// `times`: how often an element is there.
    fn collect(
        &mut self,
        offsets: &[i32],
        nulls: Option<&arrow::buffer::NullBuffer>,
        outer: bool,
        times: impl Fn(usize) -> i32,
    ) {
        for (row, bounds) in offsets.windows(2).enumerate() {
            let before = self.rows.len();
            if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                let mut number = 0;
                for at in bounds[0]..bounds[1] {
                    for _ in 0..times(at as usize) {
                        number += 1;
                        self.rows.push(row as u32);
                        self.places.push(Some(at as u32));
                        self.numbers.push(Some(number));
                    }
                }
            }
            if outer && self.rows.len() == before {
                self.rows.push(row as u32);
                self.places.push(None);
                self.numbers.push(None);
            }
        }
    }
}

impl Elements {
    fn repeat(&mut self, row: u32, times: i64) {
        for _ in 0..times {
            self.rows.push(row);
            self.places.push(None);
            self.numbers.push(None);
        }
    }
}

/// Of rows their fields, with NULL in all of them where the row is; anything else as it is.
fn fields(values: &ArrayRef) -> Vec<ArrayRef> {
    let Some(row) = values.as_struct_opt() else {
        return vec![values.clone()];
    };
    let Some(nulls) = row.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return row.columns().to_vec();
    };
    let place = |at: usize| nulls.is_valid(at).then_some(at as u32);
    let places: UInt32Array = (0..row.len()).map(place).collect();
    let columns = row.columns().iter();
    // Taking by places that are all there can't fail.
    columns
        .map(|column| take(column, &places, None).unwrap_or_else(|_| column.clone()))
        .collect()
}

impl Operator for UnnestOperator {
    fn open(&mut self, context: OpenContext, _: &mut dyn KeyedState) -> Result<()> {
        self.output = Some(context.output_schema);
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let Some(schema) = self.output.clone() else {
            return Err(Error::Internal("UNNEST was not opened".to_owned()));
        };
        let collection = batch.data().columns().get(self.spec.collection as usize);
        let collection = collection
            .ok_or_else(|| Error::Config("the collection of UNNEST does not exist".to_owned()))?;
        let (elements, sources) = self.elements(collection)?;
        if elements.rows.is_empty() {
            return Ok(());
        }
        let taken = batch.take(&UInt32Array::from(elements.rows))?;
        let mut columns = taken.data().columns().to_vec();
        let places = UInt32Array::from(elements.places);
        for source in &sources {
            columns.push(take(source, &places, None)?);
        }
        if self.spec.with_ordinality {
            columns.push(Arc::new(Int32Array::from(elements.numbers)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(taken.num_rows()));
        let data = RecordBatch::try_new_with_options(schema, columns, &options)?;
        context.out.emit(taken.with_data(data)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Builder, ListBuilder, StringBuilder};
    use arrow::datatypes::{Field, Schema};
    use weir_dataflow::RowKind;
    use weir_dataflow::testing::Harness;

    use super::*;

    fn run(outer: bool, with_ordinality: bool) -> Vec<String> {
        let mut ids = Int64Builder::new();
        let mut tags = ListBuilder::new(StringBuilder::new());
        for (id, row) in [Some(&["a", "b"][..]), None, Some(&[]), Some(&["c"])]
            .into_iter()
            .enumerate()
        {
            ids.append_value(id as i64);
            for tag in row.unwrap_or_default() {
                tags.values().append_value(tag);
            }
            tags.append(row.is_some());
        }
        let tags = tags.finish();
        let id = Field::new("id", DataType::Int64, false);
        let input = Arc::new(Schema::new(vec![
            id.clone(),
            Field::new("tags", tags.data_type().clone(), true),
        ]));
        let mut fields = input.fields().to_vec();
        fields.push(Arc::new(Field::new("tag", DataType::Utf8, true)));
        if with_ordinality {
            fields.push(Arc::new(Field::new("n", DataType::Int32, true)));
        }
        let data =
            RecordBatch::try_new(input.clone(), vec![Arc::new(ids.finish()), Arc::new(tags)]);
        let kinds = [
            RowKind::Delete,
            RowKind::Insert,
            RowKind::Insert,
            RowKind::Insert,
        ];
        let batch = Batch::with_kinds(data.unwrap(), kinds.to_vec()).unwrap();
        let operator = UnnestOperator::new(&v1::Unnest {
            collection: 1,
            outer,
            with_ordinality,
            multiset: false,
        });
        let output = Arc::new(Schema::new(fields));
        let mut harness = Harness::open(Box::new(operator), vec![input], output).unwrap();
        harness.push(0, batch).unwrap();
        harness.rows().unwrap()
    }

    #[test]
    fn each_element_makes_a_row_of_the_same_kind() {
        assert_eq!(
            run(false, false),
            ["-D 0 [a, b] a", "-D 0 [a, b] b", "+I 3 [c] c"]
        );
    }

    #[test]
    fn a_row_without_elements_stays_if_it_is_asked_for() {
        assert_eq!(
            run(true, true),
            [
                "-D 0 [a, b] a 1",
                "-D 0 [a, b] b 2",
                "+I 1 null null null",
                "+I 2 [] null null",
                "+I 3 [c] c 1"
            ]
        );
    }
}
