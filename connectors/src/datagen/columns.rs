//! Rows n..n+k as columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, RecordBatchOptions, StringBuilder, TimestampMillisecondArray, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use weir_dataflow::Result;

use super::options::{ColumnRule, Rule};

/// The random number of a row and column: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) of both.
fn draw(seed: u64, column: usize, row: u64, salt: u64) -> u64 {
    let mut z = seed
        .wrapping_add(row.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add((column as u64 + 1).wrapping_mul(0xD1B5_4A32_D192_ED03))
        .wrapping_add(salt.wrapping_mul(0x8CB9_2BA7_2F3D_8DD7));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in 0.0..1.0.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// Makes batches.
pub(super) struct Generator {
    pub schema: SchemaRef,
    pub rules: Vec<ColumnRule>,
    pub seed: u64,
}

impl Generator {
    /// `rows` rows from number `first` on; `now_ms` is the wall clock.
    pub fn batch(&self, first: u64, rows: usize, now_ms: i64) -> Result<RecordBatch> {
        let numbers = first..first + rows as u64;
        let columns = self
            .rules
            .iter()
            .zip(self.schema.fields())
            .enumerate()
            .map(|(index, (rule, field))| {
                let values = self.column(index, &rule.rule, field, numbers.clone(), now_ms)?;
                self.with_nulls(index, rule.null_rate, numbers.clone(), values)
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }

    fn column(
        &self,
        index: usize,
        rule: &Rule,
        field: &Field,
        rows: std::ops::Range<u64>,
        now_ms: i64,
    ) -> Result<ArrayRef> {
        let draw = |row: u64| draw(self.seed, index, row, 0);
        let values: ArrayRef = match rule {
            Rule::Sequence { start } => Arc::new(Int64Array::from_iter_values(
                rows.map(|row| start.wrapping_add(row as i64)),
            )),
            Rule::Integer { min, max } => {
                let span = (max - min) as u128 + 1;
                let values = rows
                    .map(|row| min + ((u128::from(draw(row)) * span) >> 64).min(span - 1) as i128);
                match field.data_type() {
                    DataType::Decimal128(precision, scale) => Arc::new(
                        Decimal128Array::from_iter_values(values)
                            .with_precision_and_scale(*precision, *scale)?,
                    ),
                    _ => Arc::new(Int64Array::from_iter_values(
                        values.map(|value| value as i64),
                    )),
                }
            }
            Rule::Float { min, max } => Arc::new(Float64Array::from_iter_values(
                rows.map(|row| min + (max - min) * unit(draw(row))),
            )),
            Rule::Boolean => Arc::new(BooleanArray::from_iter(
                rows.map(|row| Some(draw(row) & 1 == 1)),
            )),
            Rule::Text { length } => self.texts(index, *length, rows),
            Rule::Bytes { length } => self.bytes(index, *length, rows),
            Rule::Time { max_past } => {
                let past = i64::try_from(max_past.as_millis()).unwrap_or(i64::MAX);
                let times = rows.map(|row| now_ms - (unit(draw(row)) * past as f64) as i64);
                Arc::new(TimestampMillisecondArray::from_iter_values(times))
            }
        };
        if values.data_type() == field.data_type() {
            Ok(values)
        } else {
            Ok(cast(&values, field.data_type())?)
        }
    }

    fn texts(&self, index: usize, length: usize, rows: std::ops::Range<u64>) -> ArrayRef {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut builder = StringBuilder::new();
        let mut text = String::with_capacity(length);
        for row in rows {
            text.clear();
            for position in 0..length {
                let word = draw(self.seed, index, row, 1 + position as u64 / 16);
                text.push(char::from(
                    DIGITS[(word >> (position % 16 * 4) & 15) as usize],
                ));
            }
            builder.append_value(&text);
        }
        Arc::new(builder.finish())
    }

    fn bytes(&self, index: usize, length: usize, rows: std::ops::Range<u64>) -> ArrayRef {
        let mut builder = BinaryBuilder::new();
        for row in rows {
            let byte = |position: usize| draw(self.seed, index, row, 1 + position as u64) as u8;
            builder.append_value((0..length).map(byte).collect::<Vec<_>>());
        }
        Arc::new(builder.finish())
    }

    fn with_nulls(
        &self,
        index: usize,
        rate: f64,
        rows: std::ops::Range<u64>,
        values: ArrayRef,
    ) -> Result<ArrayRef> {
        if rate <= 0.0 {
            return Ok(values);
        }
        let valid = NullBuffer::from_iter(
            rows.map(|row| unit(draw(self.seed, index, row, u64::MAX)) >= rate),
        );
        Ok(make_array(
            values.to_data().into_builder().nulls(Some(valid)).build()?,
        ))
    }
}
