//! Running results: rows go into their slots one after the other, and behind each the slot's partial result is taken.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use weir_dataflow::Result;

use super::column::{Column, Weights, add_wide, mismatch};
use super::values::{Values, from_floats, from_ints, from_wide, some_nulls};

impl Column {
    /// As [`Column::update`]; gives the partial result of each row's slot behind that row.
    pub fn scan(
        &mut self,
        slots: &[u32],
        weights: Weights<'_>,
        argument: Option<&ArrayRef>,
    ) -> Result<ArrayRef> {
        let weight = |row: usize| weights.map_or(1, |weights| weights[row]);
        let rows = || slots.iter().map(|slot| *slot as usize).enumerate();
        match self {
            Self::Count(counts) => {
                let running = rows().map(|(row, slot)| {
                    counts[slot] += i64::from(weight(row));
                    counts[slot]
                });
                return from_ints(running.collect(), None, &DataType::Int64);
            }
            Self::SumInt(sums) => {
                if let Values::Int(values) = Values::of(argument.ok_or_else(mismatch)?)? {
                    let running = rows().map(|(row, slot)| {
                        let added = values[row].wrapping_mul(i64::from(weight(row)));
                        sums[slot] = sums[slot].wrapping_add(added);
                        sums[slot]
                    });
                    return from_ints(running.collect(), None, &DataType::Int64);
                }
            }
            Self::SumFloat(sums) => {
                if let Values::Float(values) = Values::of(argument.ok_or_else(mismatch)?)? {
                    let running = rows().map(|(row, slot)| {
                        // What stands at a NULL may be no number.
                        if weight(row) != 0 {
                            sums[slot] += values[row] * f64::from(weight(row));
                        }
                        sums[slot]
                    });
                    return from_floats(running.collect(), None, &DataType::Float64);
                }
            }
            Self::SumWide(sums, data_type) => {
                if let Values::Wide(values) = Values::of(argument.ok_or_else(mismatch)?)? {
                    let running: Vec<i128> = rows()
                        .map(|(row, slot)| {
                            if weight(row) != 0 {
                                add_wide(&mut sums[slot], values[row] * i128::from(weight(row)));
                            }
                            sums[slot]
                        })
                        .collect();
                    let overflowed = super::column::OVERFLOW;
                    let nulls = some_nulls(running.iter().map(|sum| *sum != overflowed));
                    let sums = running
                        .into_iter()
                        .map(|sum| if sum == overflowed { 0 } else { sum });
                    return from_wide(sums.collect(), nulls, data_type);
                }
            }
            _ => {}
        }
        self.scan_each(slots, weights, argument)
    }

    /// What keeps values: runs of rows of different slots are taken together.
    fn scan_each(
        &mut self,
        slots: &[u32],
        weights: Weights<'_>,
        argument: Option<&ArrayRef>,
    ) -> Result<ArrayRef> {
        let argument = argument.ok_or_else(mismatch)?;
        let mut last_run =
            vec![usize::MAX; slots.iter().max().map_or(0, |slot| *slot as usize + 1)];
        let mut parts: Vec<ArrayRef> = Vec::new();
        let (mut start, mut run) = (0, 0);
        while start < slots.len() {
            let mut end = start;
            while end < slots.len() && last_run[slots[end] as usize] != run {
                last_run[slots[end] as usize] = run;
                end += 1;
            }
            let part = argument.slice(start, end - start);
            let weights = weights.map(|weights| &weights[start..end]);
            self.update(&slots[start..end], weights, Some(&part))?;
            parts.push(self.gather(&slots[start..end])?);
            (start, run) = (end, run + 1);
        }
        let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(|part| part.as_ref()).collect();
        if parts.is_empty() {
            return self.gather(&[]);
        }
        Ok(arrow::compute::concat(&parts)?)
    }
}
