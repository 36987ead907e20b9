//! What operators do, in words for EXPLAIN and for their identity.

use datafusion_expr::Expr;
use weir_proto::v1;

use super::rel::{Aggregate, Column, Frame, FrameBound, FrameUnits, Over, Window, conjuncts};
use super::text;

/// The projection of a Calc.
pub(super) fn select_detail(calc: &v1::Calc) -> String {
    let text = |named: &v1::NamedExpr| {
        let text = named.expr.as_ref().map_or("", |expr| expr.text.as_str());
        if text == named.name {
            text.to_owned()
        } else {
            format!("{text} AS {}", named.name)
        }
    };
    let select: Vec<_> = calc.projection.iter().map(text).collect();
    format!("select=[{}]", select.join(", "))
}

/// The conjuncts of a filter.
pub(super) fn condition_texts(filter: Option<&Expr>, columns: &[Column]) -> Vec<String> {
    let conditions = filter.into_iter().flat_map(conjuncts);
    conditions
        .map(|condition| text::expr(&condition, columns))
        .collect()
}

/// The windows of an operator.
pub(super) fn window_detail(window: &Window, columns: &[Column]) -> String {
    let kind = window.kind.as_str_name().trim_start_matches("WINDOW_KIND_");
    let mut detail = format!(
        "window=[{kind}({}, size={} ms",
        columns[window.time_column].name, window.size_ms
    );
    for (what, value) in [("slide", window.slide_ms), ("offset", window.offset_ms)] {
        if value != 0 {
            detail.push_str(&format!(", {what}={value} ms"));
        }
    }
    if window.processing_time {
        detail.push_str(", processing time");
    }
    detail + ")]"
}

/// The keys and calls of an aggregate.
pub(super) fn aggregate_detail(
    keys: &[usize],
    aggregates: &[Aggregate],
    columns: &[Column],
) -> String {
    let calls = aggregates.iter().map(|call| text::aggregate(call, columns));
    let calls: Vec<_> = calls.collect();
    format!(
        ", groupBy=[{}], aggregates=[{}]",
        text::names(keys, columns),
        calls.join(", ")
    )
}

/// The window and the calls of an OVER.
pub(super) fn over_detail(over: &Over) -> String {
    let columns = &over.input.columns;
    let order = over.order.iter().map(|key| {
        let direction = if key.descending { " DESC" } else { "" };
        format!("{}{direction}", columns[key.column].name)
    });
    let calls = over.calls.iter().map(|over| {
        let call = text::aggregate(&over.call, columns);
        match over.call.function.as_str() {
            "ROW_NUMBER" | "RANK" | "DENSE_RANK" => format!("{}()", over.call.function),
            "LAG" | "LEAD" => format!("{call} BY {}", over.offset),
            _ => call,
        }
    });
    format!(
        "partitionBy=[{}], orderBy=[{}], window=[{}], calls=[{}]",
        text::names(&over.partition, columns),
        order.collect::<Vec<_>>().join(", "),
        frame_text(over.frame),
        calls.collect::<Vec<_>>().join(", ")
    )
}

fn frame_text(frame: Frame) -> String {
    let (units, unit) = match frame.units {
        FrameUnits::Rows => ("ROWS", ""),
        FrameUnits::Range => ("RANGE", " ms"),
    };
    let bound = |bound: FrameBound| match bound {
        FrameBound::UnboundedPreceding => "UNBOUNDED PRECEDING".to_owned(),
        FrameBound::Preceding(distance) => format!("{distance}{unit} PRECEDING"),
        FrameBound::CurrentRow => "CURRENT ROW".to_owned(),
        FrameBound::Following(distance) => format!("{distance}{unit} FOLLOWING"),
        FrameBound::UnboundedFollowing => "UNBOUNDED FOLLOWING".to_owned(),
    };
    format!(
        "{units} BETWEEN {} AND {}",
        bound(frame.start),
        bound(frame.end)
    )
}
