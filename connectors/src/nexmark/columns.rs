//! Generates a run of events as columns: those of the schema, and within a ROW column the fields of its type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema, SchemaRef, TimeUnit};
use weir_dataflow::{Error, Result};

use super::draw::Field;
use super::model::{Kind, Model, Position};
use super::options::NexmarkOptions;
use super::text::{Texts, credit_card, padding_length};

/// Bytes of a bid without its padding, as the public suite counts them.
const BID_BYTES: u64 = 32;
pub(super) const PERSON_FIELDS: &[&str] = &[
    "id",
    "name",
    "emailAddress",
    "creditCard",
    "city",
    "state",
    "dateTime",
    "extra",
];
pub(super) const AUCTION_FIELDS: &[&str] = &[
    "id",
    "itemName",
    "description",
    "initialBid",
    "reserve",
    "dateTime",
    "expires",
    "seller",
    "category",
    "extra",
];
pub(super) const BID_FIELDS: &[&str] = &[
    "auction", "bidder", "price", "channel", "url", "dateTime", "extra",
];

enum Column {
    EventType,
    Row(Kind, Fields),
}

/// Which columns are wanted.
pub(super) struct Plan {
    schema: SchemaRef,
    columns: Vec<Column>,
}

/// What generation needs beside the plan.
pub(super) struct Generator {
    plan: Plan,
    model: Model,
    sizes: [u64; 3],
    texts: &'static Texts,
}

fn fields_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Person => PERSON_FIELDS,
        Kind::Auction => AUCTION_FIELDS,
        Kind::Bid => BID_FIELDS,
    }
}

fn is_expected(name: &str, data_type: &DataType) -> bool {
    match name {
        "dateTime" | "expires" => {
            matches!(data_type, DataType::Timestamp(TimeUnit::Millisecond, _))
        }
        "id" | "initialBid" | "reserve" | "seller" | "category" | "auction" | "bidder"
        | "price" => *data_type == DataType::Int64,
        _ => *data_type == DataType::Utf8,
    }
}

impl Plan {
    /// Checks that the schema's columns are the generator's.
    pub(super) fn new(schema: &Schema) -> Result<Self> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| Self::column(field))
            .collect::<Result<_>>()?;
        Ok(Self {
            schema: Arc::new(schema.clone()),
            columns,
        })
    }

    fn column(field: &ArrowField) -> Result<Column> {
        let name = field.name().as_str();
        let kind = match name {
            "event_type" if *field.data_type() == DataType::Int32 => return Ok(Column::EventType),
            "event_type" => {
                return Err(Error::Config(
                    "connector 'nexmark': column 'event_type' must be INT".to_owned(),
                ));
            }
            "person" => Kind::Person,
            "auction" => Kind::Auction,
            "bid" => Kind::Bid,
            _ => {
                return Err(Error::Config(format!(
                    "connector 'nexmark' has no column '{name}': it has event_type INT and the rows person, auction and bid"
                )));
            }
        };
        let DataType::Struct(fields) = field.data_type() else {
            return Err(Error::Config(format!(
                "connector 'nexmark': column '{name}' must be a ROW of {}",
                fields_of(kind).join(", ")
            )));
        };
        if !field.is_nullable() {
            return Err(Error::Config(format!(
                "connector 'nexmark': column '{name}' is NULL for events of the other types, and cannot be NOT NULL"
            )));
        }
        for child in fields {
            let known = fields_of(kind).contains(&child.name().as_str());
            if !known || !is_expected(child.name(), child.data_type()) {
                return Err(Error::Config(format!(
                    "connector 'nexmark': '{name}' has no field '{}' of that type: it has {} (ids, prices and category BIGINT, dateTime and expires TIMESTAMP(3), the others STRING)",
                    child.name(),
                    fields_of(kind).join(", ")
                )));
            }
        }
        Ok(Column::Row(kind, fields.clone()))
    }
}

/// One run of events while its columns are made.
struct Run<'a> {
    generator: &'a Generator,
    kind: Kind,
    first: u64,
    rows: usize,
    nulls: NullBuffer,
}

impl Generator {
    pub(super) fn new(plan: Plan, options: &NexmarkOptions, base_time_ms: i64) -> Self {
        Self {
            plan,
            model: Model::new(options, base_time_ms),
            sizes: options.sizes,
            texts: Texts::get(),
        }
    }

    /// The events `first..first + rows`.
    pub(super) fn generate(&self, first: u64, rows: usize) -> Result<RecordBatch> {
        let mut times = None;
        let columns = self
            .plan
            .columns
            .iter()
            .map(|column| match column {
                Column::EventType => Ok(self.event_types(first, rows)),
                Column::Row(kind, fields) => {
                    let times = times.get_or_insert_with(|| {
                        ScalarBuffer::from(self.model.times_ms(first, rows))
                    });
                    self.row(*kind, fields, first, rows, times)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.plan.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    fn event_types(&self, first: u64, rows: usize) -> ArrayRef {
        let mut types = vec![Kind::Bid as i32; rows];
        for kind in [Kind::Person, Kind::Auction] {
            self.model
                .walk(kind, first, rows, |row, _| types[row] = kind as i32);
        }
        Arc::new(Int32Array::from(types))
    }

    fn row(
        &self,
        kind: Kind,
        fields: &Fields,
        first: u64,
        rows: usize,
        times: &ScalarBuffer<i64>,
    ) -> Result<ArrayRef> {
        let mut bits = vec![0u8; rows.div_ceil(8)];
        self.model
            .walk(kind, first, rows, |row, _| bits[row / 8] |= 1 << (row % 8));
        let run = Run {
            generator: self,
            kind,
            first,
            rows,
            nulls: NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows)),
        };
        let children = fields
            .iter()
            .map(|field| run.child(field, times))
            .collect::<Result<Vec<_>>>()?;
        let nulls = Some(run.nulls);
        let array = StructArray::try_new_with_length(fields.clone(), children, nulls, rows)?;
        Ok(Arc::new(array))
    }
}

impl Run<'_> {
    fn child(&self, field: &ArrowField, times: &ScalarBuffer<i64>) -> Result<ArrayRef> {
        let model = &self.generator.model;
        Ok(match (self.kind, field.name().as_str()) {
            (_, "dateTime") => self.timestamps(field, times.clone()),
            (Kind::Auction, "expires") => {
                let expires = self.values(|at| model.expires_ms(at));
                self.timestamps(field, expires.into())
            }
            (Kind::Person, "id") => self.integers(|at| model.person_id(at)),
            (Kind::Auction, "id") => self.integers(|at| model.auction_id(at)),
            (Kind::Auction, "initialBid") => self.integers(|at| model.price(at, Field::InitialBid)),
            (Kind::Auction, "reserve") => self.integers(|at| {
                model.price(at, Field::InitialBid) + model.price(at, Field::Reserve)
            }),
            (Kind::Auction, "seller") => self.integers(|at| model.seller(at)),
            (Kind::Auction, "category") => self.integers(|at| model.category(at)),
            (Kind::Bid, "auction") => self.integers(|at| model.bid_auction(at)),
            (Kind::Bid, "bidder") => self.integers(|at| model.bidder(at)),
            (Kind::Bid, "price") => self.integers(|at| model.price(at, Field::Price)),
            (Kind::Bid, name) => self.bid_text(name)?,
            (Kind::Auction, name) => {
                self.strings(64, |at, out| self.auction_text(name, at, out))?
            }
            (Kind::Person, name) => self.strings(32, |at, out| self.person_text(name, at, out))?,
        })
    }

    fn values(&self, value: impl Fn(&Position) -> i64) -> Vec<i64> {
        let mut values = vec![0; self.rows];
        let model = &self.generator.model;
        model.walk(self.kind, self.first, self.rows, |row, at| {
            values[row] = value(&at);
        });
        values
    }

    fn integers(&self, value: impl Fn(&Position) -> i64) -> ArrayRef {
        let values = self.values(value).into();
        Arc::new(Int64Array::new(values, Some(self.nulls.clone())))
    }

    fn timestamps(&self, field: &ArrowField, values: ScalarBuffer<i64>) -> ArrayRef {
        let array = TimestampMillisecondArray::new(values, Some(self.nulls.clone()));
        Arc::new(array.with_data_type(field.data_type().clone()))
    }

    /// `text` appends the text of an event; `expected` is the usual length of one.
    fn strings(
        &self,
        expected: usize,
        mut text: impl FnMut(&Position, &mut Vec<u8>),
    ) -> Result<ArrayRef> {
        let model = &self.generator.model;
        let mut bytes = Vec::with_capacity(expected * (self.rows - self.nulls.null_count()));
        let mut offsets = Vec::with_capacity(self.rows + 1);
        offsets.push(0i32);
        model.walk(self.kind, self.first, self.rows, |row, at| {
            let start = bytes.len() as i32;
            offsets.resize(row + 1, start);
            text(&at, &mut bytes);
            offsets.push(bytes.len() as i32);
        });
        offsets.resize(self.rows + 1, bytes.len() as i32);
        let offsets = OffsetBuffer::new(offsets.into());
        let nulls = Some(self.nulls.clone());
        let array = StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)?;
        Ok(Arc::new(array))
    }

    fn bid_text(&self, name: &str) -> Result<ArrayRef> {
        let texts = self.generator.texts;
        let draw = self.generator.model.draw();
        let average = self.generator.sizes[2];
        let channel = |at: &Position| texts.channel(draw.bits(at.event, Field::Channel));
        match name {
            "channel" => self.strings(12, |at, out| {
                out.extend_from_slice(channel(at).0.as_bytes());
            }),
            "url" => self.strings(80, |at, out| {
                out.extend_from_slice(channel(at).1.as_bytes());
            }),
            _ => self.strings(average as usize, |at, out| {
                let bits = draw.bits(at.event, Field::BidExtra);
                let length = padding_length(bits, BID_BYTES, average);
                out.extend_from_slice(texts.padding(bits, length));
            }),
        }
    }

    fn auction_text(&self, name: &str, at: &Position, out: &mut Vec<u8>) {
        let texts = self.generator.texts;
        let draw = self.generator.model.draw();
        let item = texts.words(draw.bits(at.event, Field::ItemName), 20);
        let description = texts.words(draw.bits(at.event, Field::Description), 100);
        match name {
            "itemName" => out.extend_from_slice(item),
            "description" => out.extend_from_slice(description),
            _ => {
                let current = 48 + (item.len() + description.len()) as u64;
                let bits = draw.bits(at.event, Field::AuctionExtra);
                let length = padding_length(bits, current, self.generator.sizes[1]);
                out.extend_from_slice(texts.padding(bits, length));
            }
        }
    }

    fn person_text(&self, name: &str, at: &Position, out: &mut Vec<u8>) {
        let texts = self.generator.texts;
        let draw = self.generator.model.draw();
        let bits = |field| draw.bits(at.event, field);
        match name {
            "name" => texts.name(bits(Field::Name), out),
            "emailAddress" => {
                out.extend_from_slice(texts.words(bits(Field::Email), 7));
                out.push(b'@');
                out.extend_from_slice(texts.words(bits(Field::Host), 5));
                out.extend_from_slice(b".com");
            }
            "creditCard" => credit_card(bits(Field::CreditCard), out),
            "city" => out.extend_from_slice(texts.city(bits(Field::City)).as_bytes()),
            "state" => out.extend_from_slice(texts.state(bits(Field::State)).as_bytes()),
            _ => {
                let start = out.len();
                for field in ["name", "emailAddress", "creditCard", "city", "state"] {
                    self.person_text(field, at, out);
                }
                let current = 8 + (out.len() - start) as u64;
                out.truncate(start);
                let bits = bits(Field::PersonExtra);
                let length = padding_length(bits, current, self.generator.sizes[0]);
                out.extend_from_slice(texts.padding(bits, length));
            }
        }
    }
}
