//! A table that several parts of a job read is read once: its scans become one that delivers what all of them need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion_expr::Expr;

use super::optimize::{merge, with_inputs};
use super::rel::{Rel, RelOp, RelRef, Scan, conjunction, input_ref, replace_inputs};

/// Rewrites the queries of a job.
pub(super) fn share_scans(rels: &mut [RelRef]) {
    let mut found = BTreeMap::new();
    for rel in rels.iter() {
        collect(rel, &mut found);
    }
    let shared: BTreeMap<String, RelRef> = found
        .into_iter()
        .filter_map(|(table, scans)| Some((table, union(&scans)?)))
        .collect();
    if shared.is_empty() {
        return;
    }
    for rel in rels.iter_mut() {
        *rel = merge(&replace(rel, &shared));
    }
}

/// The different scans of each table.
fn collect(rel: &RelRef, found: &mut BTreeMap<String, Vec<RelRef>>) {
    if let RelOp::Scan(scan) = &rel.op {
        let scans = found.entry(scan.table.name.clone()).or_default();
        let same = |known: &&RelRef| match &known.op {
            RelOp::Scan(other) => same_scan(scan, other),
            _ => false,
        };
        if !scans.iter().any(|known| same(&known)) {
            scans.push(rel.clone());
        }
    }
    for input in rel.inputs() {
        collect(input, found);
    }
}

fn same_scan(a: &Scan, b: &Scan) -> bool {
    a.read == b.read && a.projection == b.projection && a.filter == b.filter
}

fn scan_of(rel: &Rel) -> Option<&Scan> {
    match &rel.op {
        RelOp::Scan(scan) => Some(scan),
        _ => None,
    }
}

/// A scan with the columns of all of these, for rows that one of them at least wants. `None` if there is nothing to share.
fn union(scans: &[RelRef]) -> Option<RelRef> {
    let (first, others) = scans
        .split_first()
        .filter(|(_, others)| !others.is_empty())?;
    let mut whole = Rel::clone(first);
    for other in others {
        if let (RelOp::Scan(into), Some(scan)) = (&mut whole.op, scan_of(other)) {
            let places = add_columns(into, &mut whole.columns, scan, other);
            let moved = scan.filter.as_ref().map(|filter| move_to(filter, &places));
            into.filter = into.filter.take().zip(moved).map(|(a, b)| a.or(b));
        }
    }
    Some(Arc::new(whole))
}

/// Adds what is missing, and says where each of the scan's columns is.
fn add_columns(
    into: &mut Scan,
    columns: &mut Vec<super::rel::Column>,
    scan: &Scan,
    rel: &Rel,
) -> Vec<usize> {
    let mut places = Vec::with_capacity(scan.projection.len());
    for (expr, column) in scan.projection.iter().zip(&rel.columns) {
        let known = columns.iter().position(|known| known.name == column.name);
        places.push(known.unwrap_or_else(|| {
            let place = |wanted| into.read.iter().position(|known| known == wanted);
            let mut read: Vec<usize> = scan
                .read
                .iter()
                .map(|wanted| place(wanted).unwrap_or(usize::MAX))
                .collect();
            let mut used = BTreeSet::new();
            super::rel::collect_inputs(expr, &mut used);
            for index in used {
                if read[index] == usize::MAX {
                    into.read.push(scan.read[index].clone());
                    read[index] = into.read.len() - 1;
                }
            }
            into.projection.push(move_to(expr, &read));
            columns.push(column.clone());
            columns.len() - 1
        }));
    }
    places
}

fn move_to(expr: &Expr, places: &[usize]) -> Expr {
    replace_inputs(expr, |index| input_ref(places[index]))
}

/// Each scan of a shared table becomes a projection of the shared scan.
fn replace(rel: &RelRef, shared: &BTreeMap<String, RelRef>) -> RelRef {
    if let Some(scan) = scan_of(rel)
        && let Some(whole) = shared.get(&scan.table.name)
    {
        let places: Vec<usize> = rel
            .columns
            .iter()
            .map(|column| {
                let at = whole
                    .columns
                    .iter()
                    .position(|known| known.name == column.name);
                at.unwrap_or_default()
            })
            .collect();
        let filter = scan.filter.as_ref().map(|filter| move_to(filter, &places));
        let projection = places.into_iter().map(input_ref).collect();
        return Rel::calc(
            whole.clone(),
            conjunction(filter),
            projection,
            rel.columns.clone(),
        );
    }
    let inputs = rel.inputs().into_iter().map(|input| replace(input, shared));
    with_inputs(rel, inputs.collect())
}
