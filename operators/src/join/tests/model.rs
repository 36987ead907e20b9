//! Random changelogs against a join that is computed from scratch.

use proptest::prelude::*;

use super::*;

type Row = (Option<i64>, u8);

/// A row that comes to an input or, if it is there, goes from it.
fn steps() -> impl Strategy<Value = Vec<(usize, Row, bool)>> {
    let row = (
        prop_oneof![1 => Just(None), 6 => (0i64..3).prop_map(Some)],
        0u8..3,
    );
    prop::collection::vec((0usize..2, row, any::<bool>()), 0..60)
}

fn text((key, value): Row) -> String {
    match key {
        Some(key) => format!("{key} {value}"),
        None => format!("null {value}"),
    }
}

/// The result by definition; a pair matches if the keys are equal and the left value is not above the right one.
fn joined(kind: JoinKind, sides: &[Vec<Row>; 2], condition: bool) -> Vec<String> {
    let meets = |a: &Row, b: &Row| a.0.is_some() && a.0 == b.0 && (!condition || a.1 <= b.1);
    let mut result = Vec::new();
    for left in &sides[0] {
        let partners: Vec<_> = sides[1].iter().filter(|right| meets(left, right)).collect();
        match kind {
            JoinKind::Semi | JoinKind::Anti => {
                if partners.is_empty() == (kind == JoinKind::Anti) {
                    result.push(text(*left));
                }
                continue;
            }
            _ => {}
        }
        let shown = |right: &&Row| format!("{} {}", text(*left), text(**right));
        result.extend(partners.iter().map(shown));
        if partners.is_empty() && matches!(kind, JoinKind::Left | JoinKind::Full) {
            result.push(format!("{} null null", text(*left)));
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        for right in &sides[1] {
            if !sides[0].iter().any(|left| meets(left, right)) {
                result.push(format!("null null {}", text(*right)));
            }
        }
    }
    result.sort();
    result
}

fn condition() -> v1::Expr {
    use datafusion_physical_expr::expressions::{BinaryExpr, Column};
    let schema = output(JoinKind::Inner);
    let column = |index: usize| -> Arc<dyn datafusion_physical_expr::PhysicalExpr> {
        Arc::new(Column::new(schema.field(index).name(), index))
    };
    let expr = BinaryExpr::new(column(1), datafusion_expr::Operator::LtEq, column(3));
    v1::Expr {
        physical: weir_expr::codec::encode(&(Arc::new(expr) as _))
            .unwrap()
            .into(),
        text: "l.v <= r.v".to_owned(),
    }
}

proptest! {
    #[test]
    fn the_changelog_folds_to_the_join(steps in steps(), batches in 1usize..6, spills in any::<bool>(), tests in any::<bool>()) {
        for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti] {
            let mut sides = [Vec::new(), Vec::new()];
            let mut spec = spec(kind, true);
            spec.condition = tests.then(condition);
            let mut harness = open(spec, if spills { 0 } else { MEMORY });
            let mut result = Vec::new();
            for chunk in steps.chunks(batches) {
                for (input, side) in sides.iter_mut().enumerate() {
                    let mut lines = Vec::new();
                    for (to, row, goes) in chunk {
                        if *to != input {
                            continue;
                        }
                        let at = side.iter().position(|known| known == row);
                        match at.filter(|_| *goes) {
                            Some(at) => {
                                side.swap_remove(at);
                                lines.push(format!("-D {}", text(*row)));
                            }
                            None => {
                                side.push(*row);
                                lines.push(format!("+I {}", text(*row)));
                            }
                        }
                    }
                    if !lines.is_empty() {
                        harness.push(input, rows(&lines.join("\n"))).unwrap();
                        fold(&mut result, harness.rows().unwrap());
                    }
                }
                result.sort();
                prop_assert_eq!(&result, &joined(kind, &sides, tests), "{:?}", kind);
            }
        }
    }
}
