//! What is in a snapshot, as its manifest says.

use arrow::datatypes::SchemaRef;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::state::LAYOUT_LIST;
use weir_dataflow::{Error, Result};
use weir_proto::v1;
use weir_snapshot::rescale;

/// Operators in the order of the graph.
#[derive(Debug, Clone)]
pub struct Contents {
    /// Those that have state in the snapshot.
    pub operators: Vec<OperatorContents>,
}

/// What one operator has.
#[derive(Debug, Clone)]
pub struct OperatorContents {
    /// Stable identity.
    pub uid: String,
    /// For people.
    pub name: String,
    /// source, group-aggregate, ...; empty if the snapshot does not describe it.
    pub kind: String,
    /// What the state depends on besides its columns: the windows, the type of the join, the connector.
    pub detail: String,
    /// Subtasks that wrote it.
    pub parallelism: u32,
    /// Bytes of files and lists.
    pub bytes: u64,
    /// Rows on their way to it that an unaligned checkpoint holds; they are in none of the tables.
    pub in_flight_rows: u64,
    /// Empty if the snapshot does not describe it.
    pub tables: Vec<TableContents>,
}

/// One table of an operator.
#[derive(Debug, Clone)]
pub struct TableContents {
    /// Unique in the operator.
    pub name: String,
    /// The columns of its rows.
    pub schema: SchemaRef,
    /// Where its rows are.
    pub place: Place,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub enum Place {
    /// Entries of the keyed state.
    Keyed(v1::StateTable),
    /// Items of the list with this name.
    List(String),
}

/// The parts of an operator's keyed state that have something.
pub(super) fn keyed<'a>(
    manifest: &'a v1::Manifest,
    uid: &str,
) -> impl Iterator<Item = &'a v1::KeyedState> {
    let parts = rescale::parts(manifest, uid).into_iter();
    parts.filter_map(|part| part.keyed.as_ref())
}

/// The lists with this name, each with its subtask.
pub(super) fn lists<'a>(
    parts: &[&'a v1::OperatorSnapshot],
    name: &str,
) -> Vec<(u32, &'a v1::OperatorState)> {
    let states = parts
        .iter()
        .flat_map(|part| part.states.iter().map(|state| (part.subtask, state)));
    states.filter(|(_, state)| state.name == name).collect()
}

impl Contents {
    pub(super) fn of(manifest: &v1::Manifest) -> Result<Self> {
        let mut operators = Vec::new();
        for description in &manifest.descriptions {
            operators.extend(operator(manifest, description)?);
        }
        for part in &manifest.operators {
            let described = |operator: &OperatorContents| operator.uid == part.operator_uid;
            if !operators.iter().any(described) {
                let nameless = v1::OperatorDescription {
                    operator_uid: part.operator_uid.clone(),
                    operator_name: part.operator_name.clone(),
                    ..v1::OperatorDescription::default()
                };
                let contents = operator(manifest, &nameless)?;
                operators.extend(contents.filter(|o| o.bytes > 0 || o.in_flight_rows > 0));
            }
        }
        Ok(Self { operators })
    }

    /// The operator that a user means: by its uid, the beginning of it, or its name.
    ///
    /// # Errors
    /// If there is none, or more than one; the message names those that there are.
    pub fn operator(&self, wanted: &str) -> Result<&OperatorContents> {
        let listed = || {
            let names = self
                .operators
                .iter()
                .map(|o| format!("'{}' ({})", o.name, o.uid));
            names.collect::<Vec<_>>().join(", ")
        };
        if let Some(exact) = self.operators.iter().find(|o| o.uid == wanted) {
            return Ok(exact);
        }
        let fits = |o: &&OperatorContents| {
            o.name == wanted || (!wanted.is_empty() && o.uid.starts_with(wanted))
        };
        let mut found = self.operators.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(Error::Config(format!(
                "the snapshot has no operator '{wanted}'; it has {}",
                listed()
            ))),
            (Some(_), Some(_)) => Err(Error::Config(format!(
                "'{wanted}' means more than one operator of the snapshot: name it by its id; there are {}",
                listed()
            ))),
        }
    }
}

impl OperatorContents {
    /// A table by name; without one the first.
    ///
    /// # Errors
    /// If there is none; the message names those that there are.
    pub fn table(&self, wanted: Option<&str>) -> Result<&TableContents> {
        let found = match wanted {
            None => self.tables.first(),
            Some(name) => self.tables.iter().find(|table| table.name == name),
        };
        found.ok_or_else(|| {
            let names: Vec<_> = self.tables.iter().map(|t| format!("'{}'", t.name)).collect();
            let name = &self.name;
            Error::Config(match (names.is_empty(), wanted) {
                (true, _) => format!(
                    "the snapshot has state of operator '{name}', but no description of it: it was written by a Weir that did not write any"
                ),
                (false, Some(wanted)) => format!(
                    "operator '{name}' has no table '{wanted}'; it has {}",
                    names.join(", ")
                ),
                (false, None) => format!("operator '{name}' has {}", names.join(", ")),
            })
        })
    }
}

/// `None` if it has no state.
fn operator(
    manifest: &v1::Manifest,
    description: &v1::OperatorDescription,
) -> Result<Option<OperatorContents>> {
    let uid = &description.operator_uid;
    let parts = rescale::parts(manifest, uid);
    let has_state = |part: &&&v1::OperatorSnapshot| {
        part.keyed.is_some()
            || part.in_flight.is_some()
            || part.states.iter().any(|state| !state.items.is_empty())
    };
    if !parts.iter().any(|part| has_state(&part)) {
        return Ok(None);
    }
    let mut tables = Vec::new();
    for table in &description.tables {
        tables.push(TableContents {
            name: table.name.clone(),
            schema: decode_schema(&table.schema)?,
            place: Place::Keyed(table.clone()),
        });
    }
    let mut names: Vec<&str> = parts
        .iter()
        .flat_map(|part| &part.states)
        .map(|state| state.name.as_str())
        .filter(|name| *name != LAYOUT_LIST)
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let items = lists(&parts, name);
        tables.push(TableContents {
            name: name.to_owned(),
            schema: weir_layout::lists::rows(&items)?.schema(),
            place: Place::List(name.to_owned()),
        });
    }
    let in_flight = parts.iter().filter_map(|part| part.in_flight.as_ref());
    Ok(Some(OperatorContents {
        uid: uid.clone(),
        name: description.operator_name.clone(),
        kind: description.kind.clone(),
        detail: description.detail.clone(),
        parallelism: parts.iter().map(|part| part.parallelism).max().unwrap_or(0),
        bytes: parts.iter().map(|part| bytes_of(part)).sum(),
        in_flight_rows: in_flight.map(|in_flight| in_flight.rows).sum(),
        tables,
    }))
}

fn bytes_of(part: &v1::OperatorSnapshot) -> u64 {
    let files = part.keyed.iter().flat_map(|keyed| &keyed.files);
    let items = part.states.iter().flat_map(|state| &state.items);
    files.map(|file| file.size_bytes).sum::<u64>()
        + items.map(|item| item.len() as u64).sum::<u64>()
}
