//! TO_CHANGELOG and FROM_CHANGELOG: kinds of rows become codes in a column, and codes kinds. Stateless.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use arrow::datatypes::{DataType, SchemaRef};
use weir_dataflow::{Batch, Context, Error, KeyedState, OpenContext, Operator, Result, RowKind};
use weir_proto::v1;

/// See [`v1::ChangelogConversion`].
pub struct ChangelogConversionOperator {
    conversion: Conversion,
    output: Option<SchemaRef>,
}

enum Conversion {
    /// The code of each kind, by its number.
    To([Option<String>; 4]),
    From {
        column: usize,
        kinds: BTreeMap<String, RowKind>,
    },
}

impl ChangelogConversionOperator {
    /// # Errors
    /// A number that is no kind of row.
    pub fn new(spec: &v1::ChangelogConversion) -> Result<Self> {
        let codes = spec.codes.iter().map(|code| {
            let kind = u8::try_from(code.row_kind).ok().and_then(RowKind::from_u8);
            let unknown = || Error::Config(format!("there is no kind {} of rows", code.row_kind));
            Ok((code.code.clone(), kind.ok_or_else(unknown)?))
        });
        let codes = codes.collect::<Result<Vec<_>>>()?;
        let conversion = if spec.from_codes {
            Conversion::From {
                column: spec.code_column as usize,
                kinds: codes.into_iter().collect(),
            }
        } else {
            let mut of_kind: [Option<String>; 4] = Default::default();
            for (code, kind) in codes {
                of_kind[kind as usize] = Some(code);
            }
            Conversion::To(of_kind)
        };
        Ok(Self {
            conversion,
            output: None,
        })
    }
}

/// A code for each row, and the rows that have one.
fn coded(batch: &Batch, codes: &[Option<String>; 4]) -> (Vec<u32>, StringArray) {
    let rows = (0..batch.num_rows()).filter_map(|row| {
        let code = codes[batch.kind(row) as usize].as_deref()?;
        Some((row as u32, code))
    });
    let (rows, codes): (Vec<u32>, Vec<&str>) = rows.unzip();
    (rows, StringArray::from(codes))
}

/// The kind that each row's code says.
fn decoded(column: &ArrayRef, kinds: &BTreeMap<String, RowKind>) -> Result<Vec<RowKind>> {
    if column.data_type() != &DataType::Utf8 {
        return Err(Error::Config(
            "the codes of FROM_CHANGELOG are no texts".to_owned(),
        ));
    }
    let known = || kinds.keys().cloned().collect::<Vec<_>>().join(", ");
    let codes = column.as_string::<i32>().iter();
    codes
        .map(|code| {
            let code = code.ok_or_else(|| {
                Error::Data(
                    "FROM_CHANGELOG: Received NULL op code; leave such rows out in front of it, or give them one"
                        .to_owned(),
                )
            })?;
            kinds.get(code).copied().ok_or_else(|| {
                Error::Data(format!(
                    "FROM_CHANGELOG: Received invalid op code '{code}'. Defined op codes are: [{}]; add it to op_mapping, or leave such rows \
                     out in front of it",
                    known()
                ))
            })
        })
        .collect()
}

impl Operator for ChangelogConversionOperator {
    fn open(&mut self, context: OpenContext, _: &mut dyn KeyedState) -> Result<()> {
        self.output = Some(context.output_schema);
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let Some(schema) = self.output.clone() else {
            return Err(Error::Internal(
                "a conversion of changelogs was not opened".to_owned(),
            ));
        };
        let (columns, kinds) = match &self.conversion {
            Conversion::To(codes) => {
                let (rows, codes) = coded(&batch, codes);
                let taken = batch.take(&UInt32Array::from(rows))?;
                let mut columns: Vec<ArrayRef> = vec![Arc::new(codes)];
                columns.extend_from_slice(taken.data().columns());
                (columns, None)
            }
            Conversion::From { column, kinds } => {
                let codes = batch.data().columns().get(*column);
                let codes = codes.ok_or_else(|| {
                    Error::Config("the column of FROM_CHANGELOG's codes does not exist".to_owned())
                })?;
                let kinds = decoded(codes, kinds)?;
                let mut columns = batch.data().columns().to_vec();
                columns.remove(*column);
                (columns, Some(kinds))
            }
        };
        let rows = kinds.as_ref().map_or_else(|| columns[0].len(), Vec::len);
        if rows == 0 {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let data = RecordBatch::try_new_with_options(schema, columns, &options)?;
        context.out.emit(match kinds {
            Some(kinds) => Batch::with_kinds(data, kinds)?,
            None => Batch::inserts(data),
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_dataflow::testing::{Harness, batch, schema};

    use super::*;

    fn code(code: &str, kind: RowKind) -> v1::changelog_conversion::Code {
        v1::changelog_conversion::Code {
            code: code.to_owned(),
            row_kind: kind as u32,
        }
    }

    fn run(
        spec: v1::ChangelogConversion,
        input: SchemaRef,
        output: SchemaRef,
        rows: &str,
    ) -> Result<Vec<String>> {
        let operator = ChangelogConversionOperator::new(&spec)?;
        let mut harness = Harness::open(Box::new(operator), vec![input.clone()], output)?;
        harness.push(0, batch(&input, rows)?)?;
        harness.rows()
    }

    #[test]
    fn kinds_become_codes_and_those_without_one_go() {
        let spec = v1::ChangelogConversion {
            codes: vec![
                code("I", RowKind::Insert),
                code("U", RowKind::UpdateAfter),
                code("D", RowKind::Delete),
            ],
            ..Default::default()
        };
        let input = schema(&[("id", DataType::Int32)]);
        let output = schema(&[("op", DataType::Utf8), ("id", DataType::Int32)]);
        let rows = run(spec, input, output, "+I 1\n-U 1\n+U 2\n-D 2").unwrap();
        assert_eq!(rows, ["+I I 1", "+I U 2", "+I D 2"]);
    }

    #[test]
    fn codes_become_kinds_and_unknown_ones_are_errors() {
        let run = |rows: &str| {
            let spec = v1::ChangelogConversion {
                from_codes: true,
                code_column: 1,
                codes: vec![
                    code("c", RowKind::Insert),
                    code("r", RowKind::Insert),
                    code("ub", RowKind::UpdateBefore),
                    code("ua", RowKind::UpdateAfter),
                ],
            };
            let input = schema(&[("id", DataType::Int32), ("op", DataType::Utf8)]);
            run(spec, input, schema(&[("id", DataType::Int32)]), rows)
        };
        let rows = run("1 c\n2 r\n1 ub\n3 ua").unwrap();
        assert_eq!(rows, ["+I 1", "+I 2", "-U 1", "+U 3"]);
        let error = run("1 null").unwrap_err().to_string();
        assert!(error.contains("NULL op code"), "{error}");
        let error = run("1 c\n1 x").unwrap_err().to_string();
        assert!(
            error.contains("invalid op code 'x'. Defined op codes are: [c, r, ua, ub]"),
            "{error}"
        );
    }
}
