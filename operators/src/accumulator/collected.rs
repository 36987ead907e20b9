//! From lists and bags of values to ARRAY and MULTISET.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, MapArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use weir_dataflow::{Error, Result};

use super::column::mismatch;

fn wrong(output: &DataType) -> Error {
    Error::Config(format!("collected values do not become {output}"))
}

/// The values of a list, or those of a bag without their counts; NULL where there are none.
pub fn array(partial: &ArrayRef, output: &DataType, is_bag: bool) -> Result<ArrayRef> {
    let DataType::List(item) = output else {
        return Err(wrong(output));
    };
    let list = partial.as_list_opt::<i32>().ok_or_else(mismatch)?;
    let values = match is_bag {
        true => Arc::clone(
            list.values()
                .as_struct_opt()
                .ok_or_else(mismatch)?
                .column(0),
        ),
        false => Arc::clone(list.values()),
    };
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    let array = ListArray::try_new(Arc::clone(item), offsets, values, nulls)?;
    Ok(Arc::new(array))
}

/// A bag as values and their counts, never NULL; `distinct`: each count is 1.
pub fn multiset(partial: &ArrayRef, output: &DataType, distinct: bool) -> Result<ArrayRef> {
    let DataType::Map(entries, _) = output else {
        return Err(wrong(output));
    };
    let DataType::Struct(pair) = entries.data_type() else {
        return Err(wrong(output));
    };
    let list = partial.as_list_opt::<i32>().ok_or_else(mismatch)?;
    let bag = list.values().as_struct_opt().ok_or_else(mismatch)?;
    let counts: ArrayRef = match distinct {
        true => Arc::new(Int32Array::from(vec![1; bag.len()])),
        false => cast(bag.column(1), &DataType::Int32)?,
    };
    let columns = vec![Arc::clone(bag.column(0)), counts];
    let values = StructArray::try_new(pair.clone(), columns, None)?;
    let offsets = list.offsets().clone();
    let map = MapArray::try_new(Arc::clone(entries), offsets, values, None, false)?;
    Ok(Arc::new(map))
}
