//! Whether a job's operator can go on from what a snapshot has of it, and how the entries are carried over. The same rules refuse a
//! snapshot before anything runs and rewrite it when it is restored.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use weir_dataflow::types::LogicalType;
use weir_proto::v1::{self, StateEncoding};

use crate::migrate::{Migration, StreamColumn, TableMigration, TableRewrite};
use crate::parts::{Piece, Table};
use crate::stored_row::RowRewrite;

/// Why a snapshot can't be restored: names the operator and the column.
pub type Refusal = String;

const WAY_OUT: &str = "start without this snapshot, or with the query that wrote it";

/// Works out how state described by `old` becomes state described by `new`.
///
/// Columns may be dropped, and widened where the stored bytes have room: an integer to a larger one, FLOAT to DOUBLE, a DECIMAL of the
/// same scale to more digits. Whole rows may also get columns, which are NULL in old rows, and higher precisions.
///
/// # Errors
/// If that can't be done without loss.
pub fn check_operator(
    old: &v1::OperatorDescription,
    new: &v1::OperatorDescription,
) -> Result<Migration, Refusal> {
    let refuse = |what: String| {
        let name = &new.operator_name;
        Err(format!(
            "operator '{name}' (uid {}): {what}",
            new.operator_uid
        ))
    };
    if old.kind != new.kind {
        return refuse(format!(
            "the snapshot has the state of a {} of this identity, the job has a {}; {WAY_OUT}",
            old.kind, new.kind
        ));
    }
    if old.detail != new.detail {
        return refuse(format!(
            "its state in the snapshot is of [{}], the job needs [{}]; {WAY_OUT}",
            old.detail, new.detail
        ));
    }
    if old.tables == new.tables {
        return Ok(Migration::default());
    }
    tables(&old.tables, &new.tables).or_else(refuse)
}

fn tables(old: &[v1::StateTable], new: &[v1::StateTable]) -> Result<Migration, Refusal> {
    let parse = |tables: &[v1::StateTable]| {
        let tables = tables.iter().map(Table::new).collect::<Result<Vec<_>, _>>();
        tables.map_err(|error| error.to_string())
    };
    let (old, new) = (parse(old)?, parse(new)?);
    let known = |name: &str| old.iter().any(|table| table.name == name);
    if let Some(added) = new.iter().find(|table| !known(&table.name)) {
        return Err(format!(
            "'{}' is new, and the snapshot does not have what it needs of earlier rows; {WAY_OUT}",
            added.name
        ));
    }
    let mut migrations = Vec::with_capacity(old.len());
    for table in old {
        let change = match new.iter().find(|other| other.name == table.name) {
            None => None,
            Some(to) => {
                let inside = |refusal| format!("in '{}': {refusal}", table.name);
                Some(rewrite(&table, to).map_err(inside)?)
            }
        };
        migrations.push(TableMigration {
            from: table,
            change,
        });
    }
    Ok(Migration::of(migrations))
}

fn rewrite(old: &Table, new: &Table) -> Result<TableRewrite, Refusal> {
    let same_shape = old.number == new.number
        && old.key_columns.len() == new.key_columns.len()
        && old.key.len() == new.key.len()
        && old
            .key
            .iter()
            .zip(&new.key)
            .all(|(a, b)| a.encoding == b.encoding && a.columns == b.columns);
    if !same_shape {
        return Err(format!(
            "the keys of '{}' are others than in the snapshot ({}, now {}); {WAY_OUT}",
            old.name,
            keys(old),
            keys(new)
        ));
    }
    for (from, to) in old.key_columns.iter().zip(&new.key_columns) {
        let (from, to) = (old.schema.field(*from), new.schema.field(*to));
        if from.data_type() != to.data_type() {
            return Err(format!(
                "its key column '{}' was {} and is {}: rows would belong to other key groups; {WAY_OUT}",
                to.name(),
                sql_type(from),
                sql_type(to)
            ));
        }
    }
    for (from, to) in old.key.iter().zip(&new.key) {
        for at in 0..from.columns {
            fits_bytes(
                old.schema.field(from.first + at),
                new.schema.field(to.first + at),
            )?;
        }
    }
    let mut values = Vec::with_capacity(new.value.len());
    let (mut stream, mut row) = (None, None);
    for piece in &new.value {
        if piece.encoding == StateEncoding::ArrowStream {
            stream = Some(stream_columns(old, new)?);
        }
        let place = source_of(piece, old, new)?;
        if piece.encoding == StateEncoding::RowKey {
            row = Some(stored_row(old, &old.value[place], new, piece)?);
        }
        values.push(place);
    }
    Ok(TableRewrite {
        to: new.clone(),
        values,
        stream,
        row,
    })
}

fn keys(table: &Table) -> String {
    let named = |column: &usize| {
        let field = table.schema.field(*column);
        format!("{} {}", field.name(), sql_type(field))
    };
    table
        .key_columns
        .iter()
        .map(named)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Which piece of the old value becomes this one.
fn source_of(piece: &Piece, old: &Table, new: &Table) -> Result<usize, Refusal> {
    let mut candidates = old.value.iter().enumerate();
    let found = match piece.columns {
        // Versions and the like.
        0 => candidates.find(|(_, other)| {
            other.encoding == piece.encoding && other.constant == piece.constant
        }),
        _ if is_whole_row(piece) => candidates.find(|(_, other)| other.encoding == piece.encoding),
        _ => {
            let name = new.schema.field(piece.first).name();
            candidates.find(|(_, other)| {
                other.columns > 0 && old.schema.field(other.first).name() == name
            })
        }
    };
    let Some((place, from)) = found else {
        let name = match piece.columns {
            0 => "its layout",
            _ => new.schema.field(piece.first).name().as_str(),
        };
        return Err(format!(
            "'{name}' is new, and the snapshot does not have what it needs of earlier rows; {WAY_OUT}"
        ));
    };
    if is_whole_row(from) {
        return Ok(place);
    }
    for at in 0..piece.columns.max(from.columns) {
        let of = |table: &Table, piece: &Piece| {
            let inside = at < piece.columns;
            inside.then(|| table.schema.field(piece.first + at).clone())
        };
        match (of(old, from), of(new, piece)) {
            (Some(from), Some(to)) if from.name() == to.name() => fits_bytes(&from, &to)?,
            (from, to) => {
                let name =
                    |field: Option<Field>| field.map_or("nothing".to_owned(), |f| f.name().clone());
                return Err(format!(
                    "the sets of '{}' are others than in the snapshot ({}, now {}); {WAY_OUT}",
                    new.name,
                    name(from),
                    name(to)
                ));
            }
        }
    }
    if from.encoding != piece.encoding {
        let (from, to) = (old.schema.field(from.first), new.schema.field(piece.first));
        return Err(changed(from, to));
    }
    Ok(place)
}

/// Its columns go by their names, whatever their places are.
fn is_whole_row(piece: &Piece) -> bool {
    matches!(
        piece.encoding,
        StateEncoding::ArrowStream | StateEncoding::RowKey
    )
}

fn fields_of(table: &Table, piece: &Piece) -> Vec<Field> {
    let columns = piece.first..piece.first + piece.columns;
    columns.map(|at| table.schema.field(at).clone()).collect()
}

fn stored_row(old: &Table, from: &Piece, new: &Table, to: &Piece) -> Result<RowRewrite, Refusal> {
    let (from, to) = (fields_of(old, from), fields_of(new, to));
    let columns = row_columns(&Schema::new(from.clone()), &Schema::new(to.clone()))?;
    RowRewrite::new(from, to, columns).map_err(|error| error.to_string())
}

fn stream_columns(old: &Table, new: &Table) -> Result<Vec<StreamColumn>, Refusal> {
    row_columns(&old.schema, &new.schema)
}

fn row_columns(old: &Schema, new: &Schema) -> Result<Vec<StreamColumn>, Refusal> {
    let fields = new.fields().iter();
    fields
        .map(|to| match old.index_of(to.name()) {
            Err(_) if to.is_nullable() => Ok(StreamColumn::Null),
            Err(_) => Err(format!(
                "column '{}' of its rows is new and {}, but old rows have no value for it; declare it nullable",
                to.name(),
                sql_type(to)
            )),
            Ok(at) => {
                let from = old.field(at);
                match from.data_type() == to.data_type() {
                    true => Ok(StreamColumn::Of(at)),
                    false if casts(from.data_type(), to.data_type()) => Ok(StreamColumn::Cast(at)),
                    false => Err(changed(from, to)),
                }
            }
        })
        .collect()
}

fn changed(from: &Field, to: &Field) -> Refusal {
    format!(
        "column '{}' of its state was {} and is {}, which can't be carried over; {WAY_OUT}",
        to.name(),
        sql_type(from),
        sql_type(to)
    )
}

fn sql_type(field: &Field) -> String {
    LogicalType::from_field(field).map_or_else(|| field.data_type().to_string(), |t| t.to_string())
}

/// The stored bytes mean the same under both types.
fn fits_bytes(from: &Field, to: &Field) -> Result<(), Refusal> {
    let fits = match (from.data_type(), to.data_type()) {
        (a, b) if a == b => true,
        (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => q >= p && s == t,
        (a, b) => widens(a, b),
    };
    if fits { Ok(()) } else { Err(changed(from, to)) }
}

fn widens(from: &DataType, to: &DataType) -> bool {
    let width = |data_type: &DataType| match data_type {
        DataType::Int8 => Some(1),
        DataType::Int16 => Some(2),
        DataType::Int32 => Some(4),
        DataType::Int64 => Some(8),
        _ => None,
    };
    matches!((width(from), width(to)), (Some(from), Some(to)) if from < to)
}

/// Every value of the one type is one of the other.
fn casts(from: &DataType, to: &DataType) -> bool {
    let precision = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    match (from, to) {
        (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => {
            t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s)
        }
        // Nanoseconds do not reach as far.
        (DataType::Timestamp(from, a), DataType::Timestamp(to, b)) => {
            a == b && precision(from) < precision(to) && *to != TimeUnit::Nanosecond
        }
        _ => widens(from, to),
    }
}
