//! Tables that tell of updates by key, or that may repeat a change: what stands between their source and everything else.

use std::sync::Arc;

use weir_proto::v1::{self, operator::Kind};

use super::encode;
use super::lower::{Lowering, Node, exchange};
use super::rel::{Rel, RelOp, RelRef};
use super::scan::in_table;
use super::text;
use crate::catalog::Table;
use crate::error::{Result, SqlError};

/// Whole changes of a scan. Of a deletion the scan knows the key's columns only: all others can be NULL in it, and are not behind this.
pub(super) fn over(table: &Table, scan: Rel) -> Result<RelRef> {
    let place = |name: &String| scan.columns.iter().position(|column| column.name == *name);
    let key: Option<Vec<usize>> = table.primary_key.iter().map(place).collect();
    let key = key.filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| {
        in_table(
            table,
            SqlError::new("a table that is read as updates needs a PRIMARY KEY"),
        )
    })?;
    let columns = scan.columns.clone();
    let mut input = scan;
    for (place, column) in input.columns.iter_mut().enumerate() {
        column.field.nullable |= !key.contains(&place);
    }
    if let RelOp::Scan(scan) = &mut input.op {
        for (column, _) in &mut scan.read {
            column.field.nullable |= !table.primary_key.contains(&column.name);
        }
    }
    Ok(Arc::new(Rel {
        columns,
        window: None,
        updating: true,
        op: RelOp::ChangelogNormalize {
            input: Arc::new(input),
            key,
        },
    }))
}

impl Lowering {
    pub(super) fn normalize(&mut self, rel: &Rel, input: &RelRef, key: &[usize]) -> Result<Node> {
        let inputs = self.lower(input)?;
        let keys = encode::indexes(key);
        let spec = v1::ChangelogNormalize {
            key_columns: keys.clone(),
            emit_update_before: true,
            state_ttl_ms: self.state_ttl_ms(),
        };
        let detail = format!("key=[{}]", text::names(key, &input.columns));
        let inputs = exchange(&inputs, 0, &keys);
        let kind = Kind::ChangelogNormalize(spec);
        Ok(self.keyed(rel, kind, "ChangelogNormalize", detail, inputs))
    }
}
