//! FLOAT and DOUBLE as texts, as Java's `Double.toString` and `Double.parseDouble` have them.

use std::fmt::Write;

/// "1.0", "1.0E10", "NaN": an exponent from 10^7 on and below 10^-3.
pub(crate) fn write_f64(out: &mut impl Write, value: f64) {
    if special(out, value) {
        return;
    }
    write_digits(out, &format!("{value:e}"));
}

/// As [`write_f64`], with the digits that tell a FLOAT.
pub(crate) fn write_f32(out: &mut impl Write, value: f32) {
    if special(out, f64::from(value)) {
        return;
    }
    write_digits(out, &format!("{value:e}"));
}

fn special(out: &mut impl Write, value: f64) -> bool {
    let text = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "Infinity"
    } else if value == f64::NEG_INFINITY {
        "-Infinity"
    } else if value == 0.0 {
        if value.is_sign_negative() {
            "-0.0"
        } else {
            "0.0"
        }
    } else {
        return false;
    };
    let _ = out.write_str(text);
    true
}

/// From Rust's shortest scientific form ("-1.25e-7").
fn write_digits(out: &mut impl Write, scientific: &str) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    if !(-3..7).contains(&exponent) {
        let point = if mantissa.contains('.') { "" } else { ".0" };
        let _ = write!(out, "{sign}{mantissa}{point}E{exponent}");
        return;
    }
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let _ = out.write_str(sign);
    if exponent < 0 {
        let zeros = (-exponent - 1) as usize;
        let _ = write!(out, "0.{:0<zeros$}{digits}", "");
        return;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        let _ = write!(out, "{digits:0<whole$}.0");
    } else {
        let _ = write!(out, "{}.{}", &digits[..whole], &digits[whole..]);
    }
}

/// Reads what Java reads: surrounding blanks, "NaN", "Infinity", a trailing d or f.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.trim_start_matches(['+', '-']) {
        "NaN" => return Some(f64::NAN),
        "Infinity" => {
            let negative = text.starts_with('-');
            return Some(if negative {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            });
        }
        _ => {}
    }
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let numeric = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if !numeric {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_java() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (123.456, "123.456"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1.25e10, "1.25E10"),
            (1e-7, "1.0E-7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (0.0, "0.0"),
            (100.0, "100.0"),
        ] {
            let mut out = String::new();
            write_f64(&mut out, value);
            assert_eq!(out, expected);
        }
        let mut out = String::new();
        write_f32(&mut out, 0.1);
        assert_eq!(out, "0.1");
    }

    #[test]
    fn reads_as_java() {
        assert_eq!(parse(" 1.5 "), Some(1.5));
        assert_eq!(parse("1e3"), Some(1000.0));
        assert_eq!(parse("2d"), Some(2.0));
        assert_eq!(parse("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(parse("inf"), None);
        assert_eq!(parse("x"), None);
        assert_eq!(parse(""), None);
    }
}
