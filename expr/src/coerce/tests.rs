//! Operators, CASE and casts over typed columns.

use datafusion_common::ScalarValue;
use datafusion_expr::expr::{Case, Cast, InList, Like, TryCast};
use datafusion_expr::{Between, Expr, Operator, binary_expr, lit};
use std::sync::Arc;
use weir_dataflow::types::{LogicalField, LogicalType as T};

use super::types::STRING;
use crate::testing::{self, Arg, args, batch, date, dec, months, null, of, operand, run, ts};

fn operator(left: Arg, op: Operator, right: Arg) -> Result<(String, T), String> {
    let args = vec![left, right];
    let column = run(
        binary_expr(operand(&args, 0, true), op, operand(&args, 1, true)),
        &args,
    );
    let literal = run(
        binary_expr(operand(&args, 0, false), op, operand(&args, 1, false)),
        &args,
    );
    // An error names its operand, so the two texts may differ.
    assert_eq!(column.as_ref().ok(), literal.as_ref().ok(), "{args:?}");
    column
}

fn cast(arg: Arg, to: T) -> Result<String, String> {
    let args = vec![arg];
    let field = Arc::new(LogicalField::nullable(to.clone()).to_field("cast"));
    let one = |columns: bool| {
        let operand = Box::new(operand(&args, 0, columns));
        run(
            Expr::Cast(Cast::new_from_field(operand, Arc::clone(&field))),
            &args,
        )
    };
    let (literal, column) = (one(false), one(true));
    assert_eq!(
        literal.as_ref().ok(),
        column.as_ref().ok(),
        "{args:?} to {to}"
    );
    literal.map(|(text, found)| {
        assert_eq!(found, to);
        text
    })
}

#[test]
fn operators_as_in_flink() {
    use Operator::*;
    let cases = [
        (
            dec("0.908", 3, 3),
            Multiply,
            1000i64.into(),
            "908.000",
            T::Decimal(23, 3),
        ),
        (1.into(), Plus, 2i64.into(), "3", T::BigInt),
        (i32::MAX.into(), Plus, 1.into(), "-2147483648", T::Int),
        (
            i64::MAX.into(),
            Plus,
            1.into(),
            "-9223372036854775808",
            T::BigInt,
        ),
        (7.into(), Divide, 2.into(), "3", T::Int),
        (7.into(), Divide, 2.0.into(), "3.5", T::Double),
        (7i64.into(), Modulo, 4.into(), "3", T::Int),
        (1.0.into(), Divide, 0.0.into(), "Infinity", T::Double),
        (of("1.5", T::Float), Multiply, 2.into(), "3.0", T::Float),
        (
            ts("2020-01-31 00:00:00"),
            Plus,
            months(1),
            "2020-02-29 00:00:00.000",
            T::Timestamp(3),
        ),
        (1.into(), Lt, 1.5.into(), "TRUE", T::Boolean),
        (dec("1.50", 3, 2), Eq, dec("1.5", 2, 1), "TRUE", T::Boolean),
        (
            date("2020-01-01"),
            Lt,
            "2020-01-02".into(),
            "TRUE",
            T::Boolean,
        ),
        (
            null(T::Int),
            IsDistinctFrom,
            1i64.into(),
            "TRUE",
            T::Boolean,
        ),
        ("a".into(), StringConcat, "b".into(), "ab", STRING),
        (true.into(), And, null(T::Boolean), "NULL", T::Boolean),
        (false.into(), And, null(T::Boolean), "FALSE", T::Boolean),
    ];
    for (left, op, right, expected, logical_type) in cases {
        let shown = format!("{:?} {op} {:?}", left.value, right.value);
        let found = operator(left, op, right);
        assert_eq!(found, Ok((expected.to_owned(), logical_type)), "{shown}");
    }
    assert!(operator("5".into(), Eq, 5.into()).is_err());
    assert!(operator(date("2020-01-01"), Eq, ts("2020-01-01 00:00:00")).is_err());
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    use Operator::*;
    let cases: [(Arg, Operator, Arg); 6] = [
        ("a".into(), Plus, 1.into()),
        (true.into(), Lt, 1.into()),
        (1.into(), And, true.into()),
        (date("2020-01-01"), Eq, 1.into()),
        (1.into(), Divide, 0.into()),
        (1.into(), BitwiseAnd, 1.into()),
    ];
    for (left, op, right) in cases {
        let shown = format!("{:?} {op} {:?}", left.value, right.value);
        assert!(operator(left, op, right).is_err(), "{shown}");
    }
}

#[test]
fn casts_as_in_flink() {
    let cases: Vec<(Arg, T, &str)> = vec![
        (1.5.into(), STRING, "1.5"),
        (1e10.into(), STRING, "1.0E10"),
        (dec("1.50", 5, 2), STRING, "1.50"),
        (true.into(), STRING, "TRUE"),
        (ts("2020-01-01 10:00:00"), STRING, "2020-01-01 10:00:00.000"),
        (
            of("2020-01-01 10:00:00", T::Timestamp(0)),
            STRING,
            "2020-01-01 10:00:00",
        ),
        (
            of("2020-01-01 10:00:00.12", T::Timestamp(6)),
            STRING,
            "2020-01-01 10:00:00.120000",
        ),
        (date("2020-01-01"), STRING, "2020-01-01"),
        (of("10:00:00.5", T::Time(3)), STRING, "10:00:00.5"),
        ("abcdef".into(), T::VarChar(3), "abc"),
        ("ab".into(), T::Char(4), "ab  "),
        (12345.into(), T::VarChar(3), "123"),
        ("abc".as_bytes().into(), STRING, "abc"),
        (" 42 ".into(), T::Int, "42"),
        ("1.9".into(), T::Int, "1"),
        ("-7".into(), T::TinyInt, "-7"),
        ("1.25".into(), T::Decimal(3, 1), "1.3"),
        ("123.4".into(), T::Decimal(3, 1), "NULL"),
        ("1e3".into(), T::Double, "1000.0"),
        ("yes".into(), T::Boolean, "TRUE"),
        ("F".into(), T::Boolean, "FALSE"),
        ("2020-1-2".into(), T::Date, "2020-01-02"),
        (
            "2020-01-02 12:34:56.123456789".into(),
            T::Date,
            "2020-01-02",
        ),
        ("123".into(), T::Date, "0123-01-01"),
        ("10:11:12".into(), T::Time(0), "10:11:12"),
        (
            "2020-01-02 03:04:05.6789".into(),
            T::Timestamp(3),
            "2020-01-02 03:04:05.678",
        ),
        ("2020-01-02".into(), T::Timestamp(0), "2020-01-02 00:00:00"),
        (300.into(), T::TinyInt, "44"),
        (3_000_000_000i64.into(), T::Int, "-1294967296"),
        (3.99.into(), T::Int, "3"),
        ((-3.99).into(), T::BigInt, "-3"),
        (1e20.into(), T::Int, "2147483647"),
        (1e20.into(), T::TinyInt, "-1"),
        (f64::NAN.into(), T::Int, "0"),
        (dec("1.99", 3, 2), T::Int, "1"),
        (dec("1.95", 3, 2), T::Decimal(3, 1), "2.0"),
        (dec("99.9", 3, 1), T::Decimal(2, 0), "NULL"),
        (5.into(), T::Decimal(5, 2), "5.00"),
        (0.1.into(), T::Decimal(5, 2), "0.10"),
        (of("0.1", T::Float), T::Decimal(10, 9), "0.100000000"),
        (5.into(), T::Boolean, "TRUE"),
        (true.into(), T::Int, "1"),
        (ts("2020-01-02 03:04:05"), T::Date, "2020-01-02"),
        (ts("2020-01-02 03:04:05"), T::Time(0), "03:04:05"),
        (
            date("2020-01-02"),
            T::Timestamp(3),
            "2020-01-02 00:00:00.000",
        ),
        (
            ts("2020-01-02 03:04:05.678"),
            T::Timestamp(0),
            "2020-01-02 03:04:05",
        ),
        (
            ts("2020-01-02 03:04:05.678"),
            T::TimestampLtz(6),
            "2020-01-02 03:04:05.678000",
        ),
        (null(T::Int), STRING, "NULL"),
        (5.into(), T::BigInt, "5"),
        (testing::day_time(93_784_567), STRING, "+1 02:03:04.567"),
    ];
    for (arg, to, expected) in cases {
        let shown = format!("{:?} to {to}", arg.value);
        assert_eq!(cast(arg, to), Ok(expected.to_owned()), "{shown}");
    }
    for (arg, to) in [
        (Arg::from("abc"), T::Int),
        ("300".into(), T::TinyInt),
        ("2020-13-01".into(), T::Date),
        ("2020-01-01 10:00:00".into(), T::Time(0)),
        ("123".into(), T::Timestamp(3)),
        (months(3), T::Int),
        ("maybe".into(), T::Boolean),
        (1.into(), T::Date),
        (true.into(), T::Date),
    ] {
        let shown = format!("{:?} to {to}", arg.value);
        assert!(cast(arg, to).is_err(), "{shown}");
    }
}

#[test]
fn try_cast_gives_null() {
    let args = args!["abc"];
    let field = Arc::new(LogicalField::nullable(T::Int).to_field("cast"));
    let expr = Expr::TryCast(TryCast::new_from_field(
        Box::new(operand(&args, 0, true)),
        field,
    ));
    assert_eq!(run(expr, &args), Ok(("NULL".to_owned(), T::Int)));
}

#[test]
fn case_finds_the_common_type_and_evaluates_lazily() {
    let args = args![0, 2.5];
    let (zero, double) = (operand(&args, 0, true), operand(&args, 1, true));
    let division = binary_expr(lit(1i64), Operator::Divide, zero.clone());
    let case = Expr::Case(Case::new(
        None,
        vec![
            (Box::new(zero.clone().not_eq(lit(0i64))), Box::new(division)),
            (Box::new(zero.clone().eq(lit(0i64))), Box::new(double)),
        ],
        Some(Box::new(Expr::Literal(ScalarValue::Null, None))),
    ));
    assert_eq!(run(case, &args), Ok(("2.5".to_owned(), T::Double)));
    let simple = Expr::Case(Case::new(
        Some(Box::new(zero)),
        vec![(Box::new(lit(0i64)), Box::new(lit("zero")))],
        None,
    ));
    assert_eq!(run(simple, &args), Ok(("zero".to_owned(), STRING)));
}

#[test]
fn predicates() {
    let args = args![5, "abc", null(T::Int)];
    let (five, text, missing) = (
        operand(&args, 0, true),
        operand(&args, 1, true),
        operand(&args, 2, true),
    );
    let boxed = |expr: &Expr| Box::new(expr.clone());
    let within = |low: f64, negated| {
        Expr::Between(Between::new(
            boxed(&five),
            negated,
            Box::new(lit(low)),
            Box::new(lit(10i64)),
        ))
    };
    let any = |items: Vec<Expr>, negated| Expr::InList(InList::new(boxed(&five), items, negated));
    let like = |pattern: &str, escape| {
        Expr::Like(Like::new(
            true,
            boxed(&text),
            Box::new(lit(pattern)),
            escape,
            false,
        ))
    };
    for (expr, expected) in [
        (within(4.5, false), "TRUE"),
        (within(4.5, true), "FALSE"),
        (any(vec![lit(1i64), lit(5.0)], false), "TRUE"),
        (any(vec![lit(1i64), missing.clone()], false), "NULL"),
        (any(vec![lit(1i64)], true), "TRUE"),
        (like("a%", None), "FALSE"),
        (like("a#%", Some('#')), "TRUE"),
        (missing.clone().is_null(), "TRUE"),
        (missing.gt(lit(1i64)).is_not_true(), "TRUE"),
        (Expr::Not(Box::new(five.gt(lit(1i64)))), "FALSE"),
    ] {
        let shown = expr.to_string();
        let found = run(expr, &args);
        assert_eq!(found, Ok((expected.to_owned(), T::Boolean)), "{shown}");
    }
}

#[test]
fn the_session_time_zone_rules_local_times() {
    use super::Coercer;
    use datafusion_common::DFSchema;
    let args = vec![of("2020-01-01 23:30:00", T::TimestampLtz(3))];
    let batch = batch(&args);
    let schema = DFSchema::try_from(batch.schema().as_ref().clone()).unwrap();
    let coercer = Coercer {
        time_zone: Some("Asia/Shanghai".to_owned()),
    };
    let hour = crate::functions::lookup("HOUR").unwrap();
    let hour = hour.call(vec![operand(&args, 0, true)]);
    let hour = coercer.expr(hour, &schema).unwrap();
    assert_eq!(run(hour, &args).unwrap().0, "7");
    let text = Cast::new_from_field(
        Box::new(operand(&args, 0, true)),
        Arc::new(LogicalField::nullable(STRING).to_field("cast")),
    );
    let text = coercer.expr(Expr::Cast(text), &schema).unwrap();
    assert_eq!(run(text, &args).unwrap().0, "2020-01-02 07:30:00.000");
}
