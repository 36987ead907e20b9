//! The sum of the squares of the values' distances from their mean, by Welford's algorithm: what variances are made of.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use weir_dataflow::{Error, Result};

use super::column::mismatch;
use crate::codec::{Reader, put_signed};

/// The values of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Distances {
    count: i64,
    mean: f64,
    squares: f64,
}

impl Distances {
    /// A value more.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        if self.count <= 0 {
            return;
        }
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// A value is taken back.
    pub fn take(&mut self, value: f64) {
        self.count -= 1;
        match self.count {
            1.. => {
                let before = value - self.mean;
                self.mean -= before / self.count as f64;
                self.squares -= before * (value - self.mean);
            }
            0 => *self = Self::default(),
            _ => {}
        }
    }

    /// The values of two groups.
    pub fn merge(&mut self, other: Self) {
        if other.count <= 0 {
            self.count += other.count;
            return;
        }
        if self.count == 0 {
            *self = other;
            return;
        }
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        *self = Self {
            count,
            mean: self.mean + theirs / count as f64 * apart,
            squares: self.squares + other.squares + ours * theirs / count as f64 * apart * apart,
        };
    }

    /// Bytes in a value of keyed state.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_signed(self.count, out);
        out.extend_from_slice(&self.mean.to_le_bytes());
        out.extend_from_slice(&self.squares.to_le_bytes());
    }

    /// From [`Self::encode`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            count: reader.signed()?,
            mean: f64::from_le_bytes(reader.array()?),
            squares: f64::from_le_bytes(reader.array()?),
        })
    }
}

/// A column of numbers of any type as floats; what stands at a NULL is meaningless.
pub fn floats(array: &ArrayRef) -> Result<Float64Array> {
    Ok(cast(array, &DataType::Float64)?.as_primitive().clone())
}

/// Partial results.
pub fn gather(groups: impl Iterator<Item = Distances>, data_type: &DataType) -> Result<ArrayRef> {
    let DataType::Struct(fields) = data_type else {
        return Err(mismatch());
    };
    let (mut counts, mut means, mut squares) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        counts.push(group.count);
        means.push(group.mean);
        squares.push(group.squares);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(counts)),
        Arc::new(Float64Array::from(means)),
        Arc::new(Float64Array::from(squares)),
    ];
    Ok(Arc::new(StructArray::try_new(
        fields.clone(),
        columns,
        None,
    )?))
}

/// From [`gather`].
pub fn scatter(partial: &ArrayRef) -> Result<Vec<Distances>> {
    let columns = partial.as_struct_opt().ok_or_else(mismatch)?.columns();
    let [counts, means, squares] = columns else {
        return Err(mismatch());
    };
    let floats = |column: &ArrayRef| {
        let floats = column.as_primitive_opt::<Float64Type>();
        floats.map(|floats| floats.values().clone())
    };
    let counts = counts.as_primitive_opt::<Int64Type>();
    match (counts, floats(means), floats(squares)) {
        (Some(counts), Some(means), Some(squares)) => Ok(counts
            .values()
            .iter()
            .zip(means.iter().zip(squares.iter()))
            .map(|(count, (mean, squares))| Distances {
                count: *count,
                mean: *mean,
                squares: *squares,
            })
            .collect()),
        _ => Err(mismatch()),
    }
}

/// The sums; NULL where nothing is counted, or where taking back has lost so many digits that it would be negative.
pub fn results(partial: &ArrayRef, output: &DataType) -> Result<ArrayRef> {
    if *output != DataType::Float64 {
        return Err(Error::Config(format!(
            "a sum of squared distances is DOUBLE, not {output}"
        )));
    }
    let groups = scatter(partial)?.into_iter();
    let sums =
        groups.map(|group| (group.count > 0 && group.squares >= 0.0).then_some(group.squares));
    Ok(Arc::new(sums.collect::<Float64Array>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Distances {
        let mut distances = Distances::default();
        values.iter().for_each(|value| distances.add(*value));
        distances
    }

    #[test]
    fn merging_and_taking_back_give_what_counting_gives() {
        let all = of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert!((all.squares - 32.0).abs() < 1e-9);
        let mut merged = of(&[2.0, 4.0, 4.0]);
        merged.merge(of(&[4.0, 5.0, 5.0, 7.0, 9.0]));
        assert!((merged.squares - 32.0).abs() < 1e-9 && merged.count == 8);
        merged.merge(Distances::default());
        let mut less = merged;
        less.add(100.0);
        less.take(100.0);
        assert!((less.squares - 32.0).abs() < 1e-6);
        let mut none = of(&[3.0]);
        none.take(3.0);
        assert_eq!(none, Distances::default());
    }
}
