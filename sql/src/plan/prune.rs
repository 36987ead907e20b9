//! Columns that nobody needs are neither read nor carried along.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion_expr::Expr;

use super::rel::{
    Aggregate, ChangelogConversion, Join, JoinShape, MatchRecognize, MatchValue, Over, OverCall,
    Rank, RankEnd, Rel, RelOp, RelRef, Scan, Sort, SortKey, Unnest, WindowColumns, WindowSource,
    as_input_ref, collect_inputs, input_ref, is_updating, replace_inputs,
};

type Needed = BTreeSet<usize>;

/// A relation that has lost columns, and where those that are left have gone.
struct Pruned {
    rel: RelRef,
    places: Vec<Option<usize>>,
}

impl Pruned {
    /// New place of a column that was asked for.
    fn at(&self, index: usize) -> usize {
        self.places[index].unwrap_or_default()
    }

    fn moved(&self, expr: &Expr) -> Expr {
        replace_inputs(expr, |index| input_ref(self.at(index)))
    }

    fn window(&self, window: Option<WindowColumns>) -> Option<WindowColumns> {
        let at = |column: Option<usize>| self.places[column?];
        window.map(|window| WindowColumns {
            start: at(window.start),
            end: at(window.end),
            time: at(window.time),
        })
    }
}

/// The relation with these columns in this order, and nothing below it that they do not need.
pub(super) fn exactly(rel: &RelRef, columns: &[usize]) -> RelRef {
    let pruned = prune(rel, &columns.iter().copied().collect());
    let places: Vec<usize> = columns.iter().map(|index| pruned.at(*index)).collect();
    if places.iter().copied().eq(0..pruned.rel.columns.len()) {
        return pruned.rel;
    }
    let kept = places
        .iter()
        .map(|at| pruned.rel.columns[*at].clone())
        .collect();
    let projection = places.into_iter().map(input_ref).collect();
    super::optimize::merge(&Rel::calc(pruned.rel, None, projection, kept))
}

fn prune(rel: &RelRef, needed: &Needed) -> Pruned {
    match &rel.op {
        RelOp::Scan(scan) => prune_scan(rel, scan, needed),
        RelOp::Calc {
            input,
            filter,
            projection,
        } => prune_calc(rel, input, filter.as_ref(), projection, needed),
        RelOp::WindowAssign { input, window } => {
            let width = input.columns.len();
            let mut below: Needed = needed.range(..width).copied().collect();
            below.insert(window.time_column);
            below.extend(&window.partition);
            let input = prune(input, &below);
            let mut window = window.clone();
            window.time_column = input.at(window.time_column);
            window.partition = window.partition.iter().map(|at| input.at(*at)).collect();
            let mut places = input.places.clone();
            let now = input.rel.columns.len();
            places.extend((0..3).map(|offset| Some(now + offset)));
            let op = RelOp::WindowAssign {
                input: input.rel,
                window,
            };
            finish(rel, op, places)
        }
        RelOp::WindowAggregate { .. } | RelOp::GroupAggregate { .. } => {
            prune_aggregate(rel, needed)
        }
        RelOp::Join(join) => prune_join(rel, join, needed),
        RelOp::Unnest(unnest) => prune_unnest(rel, unnest, needed),
        RelOp::ChangelogNormalize { input, key } => {
            let below: Needed = needed.iter().chain(key).copied().collect();
            let input = prune(input, &below);
            let places = input.places.clone();
            let op = RelOp::ChangelogNormalize {
                key: key.iter().map(|at| input.at(*at)).collect(),
                input: input.rel,
            };
            finish(rel, op, places)
        }
        RelOp::ChangelogConversion(conversion) => prune_conversion(rel, conversion),
        RelOp::Over(over) => prune_over(rel, over, needed),
        RelOp::Rank(rank) => prune_rank(rel, rank, needed),
        RelOp::MatchRecognize(matching) => prune_match(rel, matching),
        RelOp::Sort(sort) => prune_sort(rel, sort, needed),
        RelOp::Union { inputs } => {
            let kept: Vec<usize> = needed.iter().copied().collect();
            let inputs = inputs.iter().map(|input| exactly(input, &kept)).collect();
            finish(
                rel,
                RelOp::Union { inputs },
                places_of(rel.columns.len(), needed),
            )
        }
    }
}

/// Columns in `kept` move together.
fn places_of(width: usize, kept: &Needed) -> Vec<Option<usize>> {
    let mut next = 0;
    (0..width)
        .map(|index| {
            kept.contains(&index).then(|| {
                next += 1;
                next - 1
            })
        })
        .collect()
}

/// The relation with another operation whose columns are those that `places` keeps.
fn finish(rel: &Rel, op: RelOp, places: Vec<Option<usize>>) -> Pruned {
    let mut kept: Vec<_> = places
        .iter()
        .zip(&rel.columns)
        .filter_map(|(place, column)| place.map(|place| (place, column.clone())))
        .collect();
    kept.sort_by_key(|(place, _)| *place);
    let mut pruned = Pruned {
        rel: Arc::new(Rel {
            updating: is_updating(&op, rel.updating),
            op,
            columns: kept.into_iter().map(|(_, column)| column).collect(),
            window: None,
        }),
        places,
    };
    let window = pruned.window(rel.window);
    if let Some(rel) = Arc::get_mut(&mut pruned.rel) {
        rel.window = window;
    }
    pruned
}

fn prune_scan(rel: &Rel, scan: &Scan, needed: &Needed) -> Pruned {
    let mut kept = needed.clone();
    if let Some(filter) = &scan.filter {
        collect_inputs(filter, &mut kept);
    }
    if let Some(watermark) = &scan.watermark {
        kept.insert(watermark.column);
        collect_inputs(&watermark.expr, &mut kept);
    }
    if kept.is_empty() {
        // Rows without columns have no number.
        kept.insert(cheapest(scan));
    }
    let places = places_of(rel.columns.len(), &kept);
    let moved =
        |expr: &Expr| replace_inputs(expr, |index| input_ref(places[index].unwrap_or_default()));
    let mut read = Needed::new();
    for index in &kept {
        collect_inputs(&scan.projection[*index], &mut read);
    }
    if read.is_empty() && !scan.read.is_empty() {
        read.insert(0);
    }
    let read_places = places_of(scan.read.len(), &read);
    let projection = kept.iter().map(|index| {
        replace_inputs(&scan.projection[*index], |index| {
            input_ref(read_places[index].unwrap_or_default())
        })
    });
    let pruned = Scan {
        table: scan.table.clone(),
        read: read.iter().map(|index| scan.read[*index].clone()).collect(),
        projection: projection.collect(),
        filter: scan.filter.as_ref().map(moved),
        watermark: scan
            .watermark
            .as_ref()
            .map(|watermark| super::rel::ScanWatermark {
                column: places[watermark.column].unwrap_or_default(),
                expr: moved(&watermark.expr),
            }),
        bounded: scan.bounded,
    };
    finish(rel, RelOp::Scan(pruned), places)
}

/// A column of a scan that no query needs, for its rows to be counted.
fn cheapest(scan: &Scan) -> usize {
    let fixed_size = |expr: &Expr| {
        as_input_ref(expr).is_some_and(|index| {
            scan.read[index]
                .0
                .field
                .logical_type
                .to_arrow()
                .is_primitive()
        })
    };
    scan.projection
        .iter()
        .position(fixed_size)
        .unwrap_or_default()
}

fn prune_calc(
    rel: &Rel,
    input: &RelRef,
    filter: Option<&Expr>,
    projection: &[Expr],
    needed: &Needed,
) -> Pruned {
    let mut kept = needed.clone();
    if kept.is_empty() && !projection.is_empty() {
        kept.insert(0);
    }
    let mut below = Needed::new();
    for expr in kept.iter().map(|index| &projection[*index]).chain(filter) {
        collect_inputs(expr, &mut below);
    }
    let input = prune(input, &below);
    let projection = kept.iter().map(|index| input.moved(&projection[*index]));
    let op = RelOp::Calc {
        projection: projection.collect(),
        filter: filter.map(|filter| input.moved(filter)),
        input: input.rel.clone(),
    };
    finish(rel, op, places_of(rel.columns.len(), &kept))
}

fn prune_aggregate(rel: &Rel, needed: &Needed) -> Pruned {
    let (input, keys, aggregates) = match &rel.op {
        RelOp::WindowAggregate {
            input,
            keys,
            aggregates,
            ..
        }
        | RelOp::GroupAggregate {
            input,
            keys,
            aggregates,
        } => (input, keys, aggregates),
        _ => {
            return finish(
                rel,
                rel.op.clone(),
                (0..rel.columns.len()).map(Some).collect(),
            );
        }
    };
    let (first_call, number_of_calls) = (keys.len(), aggregates.len());
    let mut kept: Vec<usize> = (0..aggregates.len())
        .filter(|call| needed.contains(&(first_call + call)))
        .collect();
    // A grouping without aggregates would have another changelog: one is kept.
    if kept.is_empty() && !aggregates.is_empty() && matches!(rel.op, RelOp::GroupAggregate { .. }) {
        kept.push(0);
    }
    let mut below: Needed = keys.iter().copied().collect();
    for call in &kept {
        let call = &aggregates[*call];
        below.extend(call.arguments.iter().chain(&call.filter));
    }
    match &rel.op {
        RelOp::WindowAggregate { window, .. } => below.extend(window_reads(window)),
        _ if below.is_empty() => below.extend([0]),
        _ => {}
    }
    let input = prune(input, &below);
    let calls = kept
        .iter()
        .map(|call| moved_call(&aggregates[*call], &input));
    let aggregates = calls.collect();
    let keys = keys.iter().map(|key| input.at(*key)).collect();
    let is_kept = |index: &usize| match index.checked_sub(first_call) {
        Some(call) if call < number_of_calls => kept.contains(&call),
        _ => true,
    };
    let columns: Needed = (0..rel.columns.len()).filter(is_kept).collect();
    let op = match &rel.op {
        RelOp::WindowAggregate {
            window, properties, ..
        } => RelOp::WindowAggregate {
            window: moved_window(window, &input),
            properties: properties.clone(),
            input: input.rel,
            keys,
            aggregates,
        },
        _ => RelOp::GroupAggregate {
            input: input.rel,
            keys,
            aggregates,
        },
    };
    finish(rel, op, places_of(rel.columns.len(), &columns))
}

fn window_reads(window: &WindowSource) -> Vec<usize> {
    match window {
        WindowSource::Assign(window) => vec![window.time_column],
        WindowSource::Attached { start, end } => vec![*start, *end],
    }
}

fn moved_window(window: &WindowSource, input: &Pruned) -> WindowSource {
    match window {
        WindowSource::Assign(window) => {
            let mut window = window.clone();
            window.time_column = input.at(window.time_column);
            WindowSource::Assign(window)
        }
        WindowSource::Attached { start, end } => WindowSource::Attached {
            start: input.at(*start),
            end: input.at(*end),
        },
    }
}

fn moved_call(call: &Aggregate, input: &Pruned) -> Aggregate {
    Aggregate {
        function: call.function.clone(),
        arguments: call
            .arguments
            .iter()
            .map(|index| input.at(*index))
            .collect(),
        distinct: call.distinct,
        filter: call.filter.map(|index| input.at(index)),
    }
}

fn prune_over(rel: &Rel, over: &Over, needed: &Needed) -> Pruned {
    let width = over.input.columns.len();
    let mut below: Needed = needed.range(..width).copied().collect();
    let kept: Vec<usize> = (0..over.calls.len())
        .filter(|call| needed.contains(&(width + call)))
        .collect();
    if kept.is_empty() {
        let mut input = prune(&over.input, &below);
        input.places.resize(rel.columns.len(), None);
        return input;
    }
    below.extend(&over.partition);
    below.extend(over.order.iter().map(|key| key.column));
    for call in &kept {
        let call = &over.calls[*call].call;
        below.extend(call.arguments.iter().chain(&call.filter));
    }
    let input = prune(&over.input, &below);
    let mut places = input.places.clone();
    places.resize(rel.columns.len(), None);
    for (place, call) in kept.iter().enumerate() {
        places[width + call] = Some(input.rel.columns.len() + place);
    }
    let order = over.order.iter().map(|key| SortKey {
        column: input.at(key.column),
        ..*key
    });
    let calls = kept.iter().map(|call| OverCall {
        call: moved_call(&over.calls[*call].call, &input),
        offset: over.calls[*call].offset,
    });
    let op = RelOp::Over(Over {
        partition: over.partition.iter().map(|at| input.at(*at)).collect(),
        order: order.collect(),
        frame: over.frame,
        calls: calls.collect(),
        place: over.place,
        input: input.rel,
    });
    finish(rel, op, places)
}

/// The element's columns all stay.
fn prune_unnest(rel: &Rel, unnest: &Unnest, needed: &Needed) -> Pruned {
    let width = unnest.input.columns.len();
    let mut below: Needed = needed.range(..width).copied().collect();
    below.insert(unnest.collection);
    let input = prune(&unnest.input, &below);
    let now = input.rel.columns.len();
    let mut places = input.places.clone();
    places.extend((0..rel.columns.len() - width).map(|offset| Some(now + offset)));
    let op = RelOp::Unnest(Unnest {
        collection: input.at(unnest.collection),
        outer: unnest.outer,
        with_ordinality: unnest.with_ordinality,
        input: input.rel,
    });
    finish(rel, op, places)
}

/// All columns stay.
fn prune_conversion(rel: &Rel, conversion: &ChangelogConversion) -> Pruned {
    let all: Vec<usize> = (0..conversion.input.columns.len()).collect();
    let op = RelOp::ChangelogConversion(ChangelogConversion {
        input: exactly(&conversion.input, &all),
        ..conversion.clone()
    });
    finish(rel, op, (0..rel.columns.len()).map(Some).collect())
}

/// What a join reads of its left and right columns besides keys and condition.
fn shape_reads(shape: &JoinShape) -> (Vec<usize>, Vec<usize>) {
    match shape {
        JoinShape::Regular => (Vec::new(), Vec::new()),
        JoinShape::Window { left, right } => (vec![left.0, left.1], vec![right.0, right.1]),
    }
}

fn moved_shape(shape: &JoinShape, left: &Pruned, right: &Pruned) -> JoinShape {
    match shape {
        JoinShape::Regular => JoinShape::Regular,
        JoinShape::Window { left: l, right: r } => JoinShape::Window {
            left: (left.at(l.0), left.at(l.1)),
            right: (right.at(r.0), right.at(r.1)),
        },
    }
}

fn prune_rank(rel: &Rel, rank: &Rank, needed: &Needed) -> Pruned {
    let width = rank.input.columns.len();
    let mut below: Needed = needed.range(..width).copied().collect();
    below.extend(&rank.partition);
    below.extend(rank.order.iter().map(|key| key.column));
    if let RankEnd::Column(column) = rank.end {
        below.insert(column);
    }
    let input = prune(&rank.input, &below);
    let with_rank = rank.with_rank && needed.contains(&width);
    let mut places = input.places.clone();
    if rank.with_rank {
        places.push(with_rank.then_some(input.rel.columns.len()));
    }
    let order = rank.order.iter().map(|key| SortKey {
        column: input.at(key.column),
        ..*key
    });
    let op = RelOp::Rank(Rank {
        partition: rank.partition.iter().map(|at| input.at(*at)).collect(),
        order: order.collect(),
        end: match rank.end {
            RankEnd::Column(column) => RankEnd::Column(input.at(column)),
            constant => constant,
        },
        with_rank,
        input: input.rel,
        ..rank.clone()
    });
    finish(rel, op, places)
}

/// All measures stay: they cost little beside finding the matches.
fn prune_match(rel: &Rel, matching: &MatchRecognize) -> Pruned {
    let mut below: Needed = matching.partition.iter().copied().collect();
    below.extend(matching.order.iter().map(|key| key.column));
    below.extend(matching.values.iter().filter_map(|value| value.column));
    if !matching.processing_time {
        below.insert(matching.time);
    }
    let input = prune(&matching.input, &below);
    let values = matching.values.iter().map(|value| MatchValue {
        column: value.column.map(|column| input.at(column)),
        ..value.clone()
    });
    let order = matching.order.iter().map(|key| SortKey {
        column: input.at(key.column),
        ..*key
    });
    let op = RelOp::MatchRecognize(MatchRecognize {
        partition: matching.partition.iter().map(|at| input.at(*at)).collect(),
        time: match matching.processing_time {
            true => 0,
            false => input.at(matching.time),
        },
        order: order.collect(),
        values: values.collect(),
        input: input.rel,
        ..matching.clone()
    });
    finish(rel, op, (0..rel.columns.len()).map(Some).collect())
}

fn prune_sort(rel: &Rel, sort: &Sort, needed: &Needed) -> Pruned {
    let mut below = needed.clone();
    below.extend(sort.order.iter().map(|key| key.column));
    let input = prune(&sort.input, &below);
    let places = input.places.clone();
    let order = sort.order.iter().map(|key| SortKey {
        column: input.at(key.column),
        ..*key
    });
    let op = RelOp::Sort(Sort {
        order: order.collect(),
        time: sort.time.map(|time| input.at(time)),
        input: input.rel,
    });
    finish(rel, op, places)
}

fn prune_join(rel: &Rel, join: &Join, needed: &Needed) -> Pruned {
    let width = join.left.columns.len();
    let mut both = needed.clone();
    if let Some(condition) = &join.condition {
        collect_inputs(condition, &mut both);
    }
    let mut left: Needed = both.range(..width).copied().collect();
    left.extend(&join.left_keys);
    let mut right: Needed = both.range(width..).map(|index| index - width).collect();
    right.extend(&join.right_keys);
    let (left_also, right_also) = shape_reads(&join.shape);
    left.extend(left_also);
    right.extend(right_also);
    let (left, right) = (prune(&join.left, &left), prune(&join.right, &right));
    let now = left.rel.columns.len();
    let mut places = left.places.clone();
    places.extend(
        right
            .places
            .iter()
            .map(|place| place.map(|place| place + now)),
    );
    let condition = join.condition.as_ref().map(|condition| {
        replace_inputs(condition, |index| {
            input_ref(places[index].unwrap_or_default())
        })
    });
    places.truncate(rel.columns.len());
    let op = RelOp::Join(Join {
        kind: join.kind,
        left_keys: join.left_keys.iter().map(|key| left.at(*key)).collect(),
        right_keys: join.right_keys.iter().map(|key| right.at(*key)).collect(),
        shape: moved_shape(&join.shape, &left, &right),
        null_safe: join.null_safe.clone(),
        condition,
        left: left.rel,
        right: right.rel,
    });
    finish(rel, op, places)
}
