//! What a kernel sees: typed views of its arguments and builders of its result, one row at a time without allocation.
//!
//! A literal argument is a column of one row that every row reads.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, BooleanBuilder,
    PrimitiveArray, PrimitiveBuilder, StringArray, StringBuilder, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use datafusion_common::{Result, internal_datafusion_err};
use datafusion_expr::ColumnarValue;

/// The arguments of one call, over one batch.
pub(crate) struct Call {
    name: &'static str,
    columns: Vec<(ArrayRef, bool)>,
    /// How many values the result must have.
    pub rows: usize,
    /// The result's type.
    pub returns: DataType,
}

impl Call {
    pub(super) fn new(
        name: &'static str,
        arguments: Vec<ColumnarValue>,
        rows: usize,
        returns: &DataType,
    ) -> Result<Self> {
        let mut columns = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let (array, constant) = match argument {
                ColumnarValue::Array(array) => (array, false),
                ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            };
            let array = match array.data_type() {
                DataType::Utf8View | DataType::LargeUtf8 => cast(&array, &DataType::Utf8)?,
                DataType::BinaryView | DataType::LargeBinary => cast(&array, &DataType::Binary)?,
                _ => array,
            };
            columns.push((array, constant));
        }
        Ok(Self {
            name,
            columns,
            rows,
            returns: returns.clone(),
        })
    }

    /// The number of arguments.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    fn wrong_type(&self, index: usize) -> datafusion_common::DataFusionError {
        internal_datafusion_err!(
            "{} got an argument {} of type {:?}: was the expression coerced?",
            self.name,
            index + 1,
            self.columns.get(index).map(|(array, _)| array.data_type())
        )
    }

    fn column(&self, index: usize) -> Result<(&ArrayRef, bool)> {
        match self.columns.get(index) {
            Some((array, constant)) => Ok((array, *constant)),
            None => Err(self.wrong_type(index)),
        }
    }

    /// The argument's type.
    pub fn data_type(&self, index: usize) -> Result<&DataType> {
        Ok(self.column(index)?.0.data_type())
    }

    /// The argument with as many rows as the result.
    pub fn array(&self, index: usize) -> Result<ArrayRef> {
        let (array, constant) = self.column(index)?;
        if !constant || array.len() == self.rows {
            return Ok(Arc::clone(array));
        }
        let zeros = UInt32Array::from_value(0, self.rows);
        Ok(take(array, &zeros, None)?)
    }

    /// The argument as it is, and whether it is one value for all rows.
    pub fn raw(&self, index: usize) -> Result<(&ArrayRef, bool)> {
        self.column(index)
    }

    pub fn text(&self, index: usize) -> Result<Text<'_>> {
        let (array, constant) = self.column(index)?;
        match array.as_string_opt::<i32>() {
            Some(array) => Ok(Text { array, constant }),
            None => Err(self.wrong_type(index)),
        }
    }

    /// A string argument that may be missing.
    pub fn optional_text(&self, index: usize) -> Result<Option<Text<'_>>> {
        (index < self.len()).then(|| self.text(index)).transpose()
    }

    pub fn bytes(&self, index: usize) -> Result<Bytes<'_>> {
        let (array, constant) = self.column(index)?;
        match array.as_binary_opt::<i32>() {
            Some(array) => Ok(Bytes { array, constant }),
            None => Err(self.wrong_type(index)),
        }
    }

    pub fn boolean(&self, index: usize) -> Result<Booleans<'_>> {
        let (array, constant) = self.column(index)?;
        match array.as_boolean_opt() {
            Some(array) => Ok(Booleans { array, constant }),
            None => Err(self.wrong_type(index)),
        }
    }

    pub fn primitive<T: ArrowPrimitiveType>(&self, index: usize) -> Result<Numbers<'_, T>> {
        let (array, constant) = self.column(index)?;
        match array.as_primitive_opt::<T>() {
            Some(array) => Ok(Numbers { array, constant }),
            None => Err(self.wrong_type(index)),
        }
    }

    /// A primitive argument that may be missing.
    pub fn optional<T: ArrowPrimitiveType>(&self, index: usize) -> Result<Option<Numbers<'_, T>>> {
        (index < self.len())
            .then(|| self.primitive(index))
            .transpose()
    }

    /// The literal text of an argument that parameterises the function.
    pub fn literal(&self, index: usize) -> Result<&str> {
        let text = self.text(index)?;
        text.constant
            .then(|| text.get(0))
            .flatten()
            .ok_or_else(|| self.wrong_type(index))
    }
}

/// A column of strings.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    array: &'a StringArray,
    pub constant: bool,
}

impl<'a> Text<'a> {
    pub fn get(&self, row: usize) -> Option<&'a str> {
        let index = if self.constant { 0 } else { row };
        self.array.is_valid(index).then(|| self.array.value(index))
    }
}

/// A column of BYTES.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    array: &'a BinaryArray,
    constant: bool,
}

impl<'a> Bytes<'a> {
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        let index = if self.constant { 0 } else { row };
        self.array.is_valid(index).then(|| self.array.value(index))
    }
}

/// A column of BOOLEAN.
#[derive(Clone, Copy)]
pub(crate) struct Booleans<'a> {
    array: &'a BooleanArray,
    constant: bool,
}

impl Booleans<'_> {
    pub fn get(&self, row: usize) -> Option<bool> {
        let index = if self.constant { 0 } else { row };
        self.array.is_valid(index).then(|| self.array.value(index))
    }
}

/// A column of a primitive type.
#[derive(Clone, Copy)]
pub(crate) struct Numbers<'a, T: ArrowPrimitiveType> {
    pub array: &'a PrimitiveArray<T>,
    pub constant: bool,
}

impl<T: ArrowPrimitiveType> Numbers<'_, T> {
    pub fn get(&self, row: usize) -> Option<T::Native> {
        let index = if self.constant { 0 } else { row };
        self.array.is_valid(index).then(|| self.array.value(index))
    }
}

/// Strings of `rows` rows: `write` puts a row's text into the buffer and says whether it is not NULL. What it wrote before saying NULL
/// would become part of the next row, so it must know first.
pub(crate) fn texts(
    rows: usize,
    mut write: impl FnMut(usize, &mut StringBuilder) -> Option<()>,
) -> Result<ArrayRef> {
    try_texts(rows, |row, out| write(row, out).map(Ok))
}

/// As [`texts`], for what can fail.
pub(crate) fn try_texts(
    rows: usize,
    mut write: impl FnMut(usize, &mut StringBuilder) -> Option<Result<()>>,
) -> Result<ArrayRef> {
    let mut builder = StringBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        match write(row, &mut builder).transpose()? {
            Some(()) => builder.append_value(""),
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Appends to a row's text; a string builder never refuses.
pub(crate) fn put(out: &mut StringBuilder, text: &str) {
    let _ = out.write_str(text);
}

/// Appends a character to a row's text.
pub(crate) fn put_char(out: &mut StringBuilder, c: char) {
    let _ = out.write_char(c);
}

/// Primitives of `rows` rows.
pub(crate) fn numbers<T: ArrowPrimitiveType>(
    rows: usize,
    mut value: impl FnMut(usize) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(value(row));
    }
    Ok(Arc::new(builder.finish()))
}

/// As [`numbers`], for what can fail.
pub(crate) fn try_numbers<T: ArrowPrimitiveType>(
    rows: usize,
    mut value: impl FnMut(usize) -> Option<Result<T::Native>>,
) -> Result<ArrayRef> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(value(row).transpose()?);
    }
    Ok(Arc::new(builder.finish()))
}

/// Booleans of `rows` rows.
pub(crate) fn booleans(
    rows: usize,
    mut value: impl FnMut(usize) -> Option<bool>,
) -> Result<ArrayRef> {
    let mut builder = BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(value(row));
    }
    Ok(Arc::new(builder.finish()))
}
