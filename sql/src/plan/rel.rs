//! The streaming relational algebra: what a query means, before it is cut into operators.
//!
//! A relation's columns are addressed by position. Inside expressions input column `i` is an `Expr::Column` with the name `#i`
//! ([`input_ref`]), so names need not be unique and rewriting is arithmetic; what people read is made from [`Column::name`] by `text`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column as DfColumn, DFSchema};
use datafusion_expr::Expr;
use sqlparser::ast::Ident;
use sqlparser::tokenizer::Location;
use weir_dataflow::RowKind;
use weir_dataflow::types::LogicalField;
use weir_proto::v1::match_recognize::Skip;
use weir_proto::v1::match_value::Pick;
use weir_proto::v1::{JoinKind, WindowKind};

use super::{TimeAttribute, join, rank};
use crate::catalog::Table;
use crate::error::{Result, SqlError};

/// A column of a relation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub name: String,
    pub field: LogicalField,
    pub time: Option<TimeAttribute>,
}

/// Which columns say to what window a row belongs. A column that a projection dropped is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowColumns {
    pub start: Option<usize>,
    pub end: Option<usize>,
    pub time: Option<usize>,
}

/// A relation: an operation on other relations.
#[derive(Debug, Clone)]
pub(super) struct Rel {
    pub op: RelOp,
    pub columns: Vec<Column>,
    /// Set if each row belongs to one window.
    pub window: Option<WindowColumns>,
    /// The rows are a changelog with updates and deletions, not insertions only.
    pub updating: bool,
}

/// A shared relation.
pub(super) type RelRef = Arc<Rel>;

#[derive(Debug, Clone)]
pub(super) enum RelOp {
    Scan(Scan),
    /// Filter over the input's columns, then projection.
    Calc {
        input: RelRef,
        filter: Option<Expr>,
        projection: Vec<Expr>,
    },
    /// Input's columns, then window_start, window_end, window_time.
    WindowAssign {
        input: RelRef,
        window: Window,
    },
    /// Keys, aggregates, then the properties.
    WindowAggregate {
        input: RelRef,
        window: WindowSource,
        keys: Vec<usize>,
        aggregates: Vec<Aggregate>,
        properties: Vec<WindowProperty>,
    },
    /// Keys, then aggregates.
    GroupAggregate {
        input: RelRef,
        keys: Vec<usize>,
        aggregates: Vec<Aggregate>,
    },
    Join(Join),
    Unnest(Unnest),
    ChangelogConversion(ChangelogConversion),
    /// A changelog of whole rows, of updates by the columns `key`, or of a changelog with repetitions.
    ChangelogNormalize {
        input: RelRef,
        key: Vec<usize>,
    },
    Over(Over),
    Rank(Rank),
    MatchRecognize(MatchRecognize),
    Sort(Sort),
    Union {
        inputs: Vec<RelRef>,
    },
}

/// Reads a table. Its relation's columns are `projection` over `read`.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub table: Arc<Table>,
    /// What the connector delivers; `.1` is a metadata column's key.
    pub read: Vec<(Column, Option<String>)>,
    pub projection: Vec<Expr>,
    /// Over the projection's output.
    pub filter: Option<Expr>,
    pub watermark: Option<ScanWatermark>,
    /// The connector ends by itself.
    pub bounded: bool,
}

/// WATERMARK FOR: both over the scan's output columns.
#[derive(Debug, Clone)]
pub(super) struct ScanWatermark {
    pub column: usize,
    pub expr: Expr,
}

/// Windows that rows are put into. Times in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    pub kind: WindowKind,
    /// SESSION: the gap.
    pub size_ms: i64,
    pub slide_ms: i64,
    pub offset_ms: i64,
    pub time_column: usize,
    /// By the clock; the time column is not looked at.
    pub processing_time: bool,
    /// SESSION: rows of the same values in these columns are in the same sessions.
    pub partition: Vec<usize>,
}

/// How an aggregate knows a row's window.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WindowSource {
    /// It puts the rows into windows itself.
    Assign(Window),
    /// The rows carry their window's start and end.
    Attached { start: usize, end: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowProperty {
    Start,
    End,
    Time,
}

impl WindowProperty {
    /// As in the job graph.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "window_start",
            Self::End => "window_end",
            Self::Time => "window_time",
        }
    }
}

/// A call of an aggregate function over columns of the input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Aggregate {
    /// In capitals.
    pub function: String,
    pub arguments: Vec<usize>,
    pub distinct: bool,
    pub filter: Option<usize>,
}

/// Calls with OVER, all over one window: the input's columns, then the calls' results.
#[derive(Debug, Clone)]
pub(super) struct Over {
    pub input: RelRef,
    pub partition: Vec<usize>,
    pub order: Vec<SortKey>,
    pub frame: Frame,
    pub calls: Vec<OverCall>,
    /// Where the first call stands in the script.
    pub place: Location,
}

/// A column to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SortKey {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

/// The rows of each partition whose number by `order` is `start` or more, and the end or less: the input's columns, then the number.
#[derive(Debug, Clone)]
pub(super) struct Rank {
    pub input: RelRef,
    pub partition: Vec<usize>,
    pub order: Vec<SortKey>,
    /// ROW_NUMBER; others are refused when operators are made.
    pub function: String,
    /// 1 is the first.
    pub start: u64,
    pub end: RankEnd,
    /// The number is a column.
    pub with_rank: bool,
    /// Where it stands in the script.
    pub place: Location,
}

/// All rows of the input, in order.
#[derive(Debug, Clone)]
pub(super) struct Sort {
    pub input: RelRef,
    pub order: Vec<SortKey>,
    /// The rowtime column, if that is what the order begins with. Else the input is bounded.
    pub time: Option<usize>,
}

/// The last number that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RankEnd {
    Constant(u64),
    /// A column of the input.
    Column(usize),
}

/// The matches of a pattern in the rows of each partition, in the order of time: the partition's columns, then the measures.
#[derive(Debug, Clone)]
pub(super) struct MatchRecognize {
    pub input: RelRef,
    pub partition: Vec<usize>,
    /// The time attribute.
    pub time: usize,
    pub processing_time: bool,
    /// Behind the time.
    pub order: Vec<SortKey>,
    pub variables: Vec<PatternVariable>,
    /// What conditions and measures read.
    pub values: Vec<MatchValue>,
    /// The columns that conditions and measures are expressions over: one a value.
    pub value_columns: Vec<Column>,
    pub measures: Vec<Expr>,
    /// With the place of the variable that is skipped to.
    pub skip: (Skip, usize),
    /// 0: a match may be as long as it likes.
    pub within_ms: i64,
}

/// A variable of a pattern with its quantifier.
#[derive(Debug, Clone)]
pub(super) struct PatternVariable {
    pub name: String,
    pub min: u32,
    /// `None`: any number.
    pub max: Option<u32>,
    pub greedy: bool,
    /// Over the values; `None`: every row.
    pub condition: Option<Expr>,
}

impl PatternVariable {
    /// Without a quantifier.
    pub fn once(name: &Ident) -> Self {
        Self {
            name: name.value.clone(),
            min: 1,
            max: Some(1),
            greedy: false,
            condition: None,
        }
    }
}

/// A column, or an aggregate of one, over the rows of a variable, or of all.
#[derive(Debug, Clone)]
pub(super) struct MatchValue {
    pub variable: Option<usize>,
    pub pick: Pick,
    /// FIRST, LAST: how many rows from there.
    pub offset: u32,
    pub function: &'static str,
    pub column: Option<usize>,
}

/// Which rows around the current one a call with OVER sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub units: FrameUnits,
    pub start: FrameBound,
    pub end: FrameBound,
}

/// What [`FrameBound`]s count: rows, or what ORDER BY's column counts (milliseconds for a time).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameUnits {
    Rows,
    Range,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameBound {
    UnboundedPreceding,
    Preceding(i64),
    CurrentRow,
    Following(i64),
    UnboundedFollowing,
}

/// An aggregate or ranking function over a frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OverCall {
    /// ROW_NUMBER, RANK, DENSE_RANK, LAG and LEAD are functions here, too. LAG's and LEAD's default is the second argument.
    pub call: Aggregate,
    /// LAG and LEAD: how many rows away.
    pub offset: i64,
}

/// Input's columns, those of an element of the collection, then its number.
#[derive(Debug, Clone)]
pub(super) struct Unnest {
    pub input: RelRef,
    pub collection: usize,
    /// A row without elements stays.
    pub outer: bool,
    pub with_ordinality: bool,
}

/// TO_CHANGELOG: a column with the code of the row's kind, then the input's columns. FROM_CHANGELOG: the input's columns without the code's.
#[derive(Debug, Clone)]
pub(super) struct ChangelogConversion {
    pub input: RelRef,
    /// FROM_CHANGELOG: the column with the codes.
    pub from: Option<usize>,
    pub codes: Vec<(String, RowKind)>,
}

/// Left columns, then right columns; of SEMI and ANTI the left ones only.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub kind: JoinKind,
    pub shape: JoinShape,
    pub left: RelRef,
    pub right: RelRef,
    pub left_keys: Vec<usize>,
    pub right_keys: Vec<usize>,
    /// One a key: NULL equals NULL.
    pub null_safe: Vec<bool>,
    /// Over left columns ++ right columns.
    pub condition: Option<Expr>,
}

/// Which rows of a join meet, besides the condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum JoinShape {
    /// All.
    Regular,
    /// Those of one window: its start and end on each side.
    Window {
        left: (usize, usize),
        right: (usize, usize),
    },
}

impl Rel {
    /// A projection and filter; keeps time attributes and windows of columns that pass unchanged. A filter that bounds a ROW_NUMBER changes
    /// what the input is.
    pub fn calc(
        input: RelRef,
        filter: Option<Expr>,
        projection: Vec<Expr>,
        columns: Vec<Column>,
    ) -> RelRef {
        let bounded = filter
            .as_ref()
            .and_then(|filter| rank::bound(&input, filter));
        let (input, filter) = bounded.unwrap_or((input, filter));
        let window = input.window.map(|window| {
            let moved = |column: Option<usize>| {
                let column = column?;
                projection
                    .iter()
                    .position(|expr| as_input_ref(expr) == Some(column))
            };
            WindowColumns {
                start: moved(window.start),
                end: moved(window.end),
                time: moved(window.time),
            }
        });
        let updating = input.updating;
        Arc::new(Self {
            op: RelOp::Calc {
                input,
                filter,
                projection,
            },
            columns,
            window,
            updating,
        })
    }

    /// Only a filter.
    pub fn filter(input: RelRef, filter: Expr) -> RelRef {
        let projection = (0..input.columns.len()).map(input_ref).collect();
        let columns = input.columns.clone();
        Self::calc(input, Some(filter), projection, columns)
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> Vec<&RelRef> {
        match &self.op {
            RelOp::Scan(_) => Vec::new(),
            RelOp::Calc { input, .. }
            | RelOp::WindowAssign { input, .. }
            | RelOp::WindowAggregate { input, .. }
            | RelOp::GroupAggregate { input, .. }
            | RelOp::ChangelogNormalize { input, .. } => vec![input],
            RelOp::Unnest(unnest) => vec![&unnest.input],
            RelOp::ChangelogConversion(conversion) => vec![&conversion.input],
            RelOp::Join(join) => vec![&join.left, &join.right],
            RelOp::Over(over) => vec![&over.input],
            RelOp::Rank(rank) => vec![&rank.input],
            RelOp::MatchRecognize(matching) => vec![&matching.input],
            RelOp::Sort(sort) => vec![&sort.input],
            RelOp::Union { inputs } => inputs.iter().collect(),
        }
    }
}

impl ChangelogConversion {
    /// FROM_CHANGELOG with codes of more than insertions.
    pub fn is_updating(&self) -> bool {
        self.from.is_some() && self.codes.iter().any(|(_, kind)| *kind != RowKind::Insert)
    }
}

/// Whether an operation emits updates, now that its inputs do or do not. `known`: what was found before, for those that are the same anyway.
pub(super) fn is_updating(op: &RelOp, known: bool) -> bool {
    match op {
        RelOp::Calc { input, .. } | RelOp::WindowAssign { input, .. } => input.updating,
        RelOp::GroupAggregate {
            input, aggregates, ..
        } => input.updating || !aggregates.is_empty(),
        RelOp::Unnest(unnest) => unnest.input.updating,
        RelOp::Over(over) => over.input.updating || !super::over::is_by_time(over),
        RelOp::Rank(rank) => rank::is_updating(rank),
        RelOp::Sort(sort) => sort.input.updating,
        RelOp::Union { inputs } => inputs.iter().any(|input| input.updating),
        RelOp::Join(join) => join::updates(join),
        RelOp::MatchRecognize(_) => false,
        RelOp::ChangelogConversion(conversion) => conversion.is_updating(),
        RelOp::ChangelogNormalize { .. } => true,
        RelOp::Scan(_) | RelOp::WindowAggregate { .. } => known,
    }
}

/// Input column `index`.
pub(super) fn input_ref(index: usize) -> Expr {
    Expr::Column(DfColumn::new_unqualified(format!("#{index}")))
}

/// The input column that an expression is, if it is nothing else.
pub(super) fn as_input_ref(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) if column.relation.is_none() => {
            column.name.strip_prefix('#')?.parse().ok()
        }
        _ => None,
    }
}

/// Adds the input columns that an expression reads.
pub(super) fn collect_inputs(expr: &Expr, used: &mut BTreeSet<usize>) {
    let _ = expr.apply(|node| {
        used.extend(as_input_ref(node));
        Ok(TreeNodeRecursion::Continue)
    });
}

/// Replaces each reference to an input column.
pub(super) fn replace_inputs(expr: &Expr, mut with: impl FnMut(usize) -> Expr) -> Expr {
    let replaced = expr.clone().transform_up(|node| {
        Ok(match as_input_ref(&node) {
            Some(index) => Transformed::yes(with(index)),
            None => Transformed::no(node),
        })
    });
    // The closure never fails, so neither does the walk.
    replaced.map_or_else(|_| expr.clone(), |replaced| replaced.data)
}

/// The schema that expressions over these columns are typed and compiled against.
pub(super) fn expr_schema(columns: &[Column]) -> Result<DFSchema> {
    let fields: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| column.field.to_field(&format!("#{index}")))
        .collect();
    DFSchema::try_from(Schema::new(fields)).map_err(|error| SqlError::new(error.to_string()))
}

/// The Arrow schema of rows with these columns.
pub(super) fn row_schema(columns: &[Column]) -> Schema {
    let fields: Vec<_> = columns
        .iter()
        .map(|column| column.field.to_field(&column.name))
        .collect();
    Schema::new(fields)
}

/// The conjuncts of a condition.
pub(super) fn conjuncts(expr: &Expr) -> Vec<Expr> {
    datafusion_expr::utils::split_conjunction(expr)
        .into_iter()
        .cloned()
        .collect()
}

/// All of them; `None` if there are none.
pub(super) fn conjunction(conditions: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(Expr::and)
}
