//! DECIMAL as an unscaled i128 with a scale. Rounding is HALF_UP, as in Flink; what does not fit becomes `None` (NULL).

use std::fmt::Write;

use arrow::datatypes::i256;

const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// 10 to the `exponent`; `None` from 39 on.
pub(crate) fn pow10(exponent: i32) -> Option<i128> {
    usize::try_from(exponent)
        .ok()
        .and_then(|exponent| POWERS.get(exponent).copied())
}

/// Whether a value has at most `precision` digits.
pub(crate) fn fits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < POWERS[usize::from(precision.min(38))].unsigned_abs()
}

/// The value at another scale, if it has at most `precision` digits there.
pub(crate) fn rescale(value: i128, from: i8, to: i8, precision: u8) -> Option<i128> {
    let by = i32::from(to) - i32::from(from);
    let scaled = if by >= 0 {
        value.checked_mul(pow10(by)?)?
    } else {
        match pow10(-by) {
            Some(divisor) => divide_half_up(value, divisor),
            None => 0,
        }
    };
    fits(scaled, precision).then_some(scaled)
}

/// `value / divisor`, halves away from zero. `divisor` must not be zero.
pub(crate) fn divide_half_up(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    let rest = (value % divisor).unsigned_abs();
    if rest >= divisor.unsigned_abs() - rest {
        let away = if (value < 0) == (divisor < 0) { 1 } else { -1 };
        quotient + away
    } else {
        quotient
    }
}

/// `left / right` at `scale`, if it has at most `precision` digits there. `None` for a zero divisor too.
pub(crate) fn divide(
    left: (i128, i8),
    right: (i128, i8),
    precision: u8,
    scale: i8,
) -> Option<i128> {
    if right.0 == 0 {
        return None;
    }
    let shift = i32::from(scale) - i32::from(left.1) + i32::from(right.1);
    let quotient = if shift >= 0 {
        match pow10(shift).and_then(|power| left.0.checked_mul(power)) {
            Some(dividend) => divide_half_up(dividend, right.0),
            None => wide_half_up(wide_shift(left.0, shift)?, i256::from_i128(right.0))?,
        }
    } else {
        let divisor = wide_shift(right.0, -shift)?;
        wide_half_up(i256::from_i128(left.0), divisor)?
    };
    fits(quotient, precision).then_some(quotient)
}

/// `left * right` at `scale`, if it has at most `precision` digits there.
pub(crate) fn multiply(
    left: (i128, i8),
    right: (i128, i8),
    precision: u8,
    scale: i8,
) -> Option<i128> {
    let product_scale = i32::from(left.1) + i32::from(right.1);
    if let Some(product) = left.0.checked_mul(right.0) {
        return rescale(product, i8::try_from(product_scale).ok()?, scale, precision);
    }
    let product = i256::from_i128(left.0).checked_mul(i256::from_i128(right.0))?;
    let divisor = wide_shift(1, product_scale - i32::from(scale))?;
    let rounded = wide_half_up(product, divisor)?;
    fits(rounded, precision).then_some(rounded)
}

fn wide_shift(value: i128, by: i32) -> Option<i256> {
    let power = i256::from_i128(10).checked_pow(u32::try_from(by).ok()?)?;
    i256::from_i128(value).checked_mul(power)
}

fn wide_half_up(value: i256, divisor: i256) -> Option<i128> {
    let quotient = value.checked_div(divisor)?;
    let rest = value.checked_rem(divisor)?.wrapping_abs();
    let size = divisor.wrapping_abs();
    if rest >= size.wrapping_sub(rest) {
        let away = if value.is_negative() == divisor.is_negative() {
            i256::ONE
        } else {
            i256::MINUS_ONE
        };
        return quotient.checked_add(away)?.to_i128();
    }
    quotient.to_i128()
}

/// Reads a decimal text ("-12.5", "1e3"); `None` if it is none, `Some(None)` if it does not fit.
pub(crate) fn parse(text: &str, precision: u8, scale: i8) -> Option<Option<i128>> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Digits beyond the target's last one only round, so one of them is enough.
    let keep = i64::from(scale) + i64::from(exponent) + whole.len() as i64;
    let mut value: i128 = 0;
    let mut next = None;
    let mut overflow = false;
    let mut used = 0i64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        let digit = i128::from(byte - b'0');
        if used < keep {
            match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
                Some(longer) => value = longer,
                None => overflow = true,
            }
        } else if used == keep {
            next = Some(digit);
        }
        used += 1;
    }
    if overflow {
        return Some(None);
    }
    if used < keep && value != 0 {
        let missing = pow10(i32::try_from(keep - used).ok()?);
        match missing.and_then(|power| value.checked_mul(power)) {
            Some(longer) => value = longer,
            None => return Some(None),
        }
    }
    if next.is_some_and(|digit| digit >= 5) {
        value += 1;
    }
    let value = if negative { -value } else { value };
    Some(fits(value, precision).then_some(value))
}

/// Writes a plain decimal: "-0.05", never an exponent.
pub(crate) fn write(out: &mut impl Write, value: i128, scale: i8) {
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    let Some(power) = pow10(i32::from(scale)).filter(|power| *power > 1) else {
        let _ = write!(out, "{value}");
        return;
    };
    let power = power.unsigned_abs();
    let width = scale.unsigned_abs() as usize;
    let _ = write!(
        out,
        "{sign}{}.{:0width$}",
        magnitude / power,
        magnitude % power
    );
}

/// A number's text as Java's `BigDecimal` prints it: "1e3" is "1E+3", "-0.0" is "0.0". `None` if it is no number.
pub(crate) fn java_text(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unscaled = match all.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let sign = if negative && unscaled != "0" { "-" } else { "" };
    let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let length = i64::try_from(unscaled.len()).ok()?;
    let adjusted = length.checked_sub(scale)?.checked_sub(1)?;
    if scale == 0 {
        return Some(format!("{sign}{unscaled}"));
    }
    if scale > 0 && adjusted >= -6 {
        let width = usize::try_from(scale).ok()? + 1;
        let padded = format!("{unscaled:0>width$}");
        let point = padded.len() - (width - 1);
        return Some(format!("{sign}{}.{}", &padded[..point], &padded[point..]));
    }
    let (first, rest) = unscaled.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    Some(format!("{sign}{first}{point}{rest}E{adjusted:+}"))
}

/// The nearest double, as Java's `BigDecimal.doubleValue` gives it.
pub(crate) fn to_f64(value: i128, scale: i8) -> f64 {
    const EXACT: i128 = 1 << 53;
    if value.abs() < EXACT && (0..=22).contains(&scale) {
        // Both are exact as doubles, so the one division rounds correctly.
        return value as f64 / 10f64.powi(i32::from(scale));
    }
    let mut text = String::with_capacity(48);
    write(&mut text, value, scale);
    text.parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_up() {
        assert_eq!(rescale(125, 2, 1, 10), Some(13));
        assert_eq!(rescale(-125, 2, 1, 10), Some(-13));
        assert_eq!(rescale(124, 2, 1, 10), Some(12));
        assert_eq!(rescale(999, 1, 0, 2), None);
        assert_eq!(rescale(5, 0, 3, 10), Some(5000));
    }

    #[test]
    fn prints_as_java_does() {
        for (text, expected) in [
            ("1e3", Some("1E+3")),
            ("1.0E10", Some("1.0E+10")),
            ("2.50", Some("2.50")),
            ("-0.0", Some("0.0")),
            ("0.000001", Some("0.000001")),
            ("0.00000012", Some("1.2E-7")),
            ("-12e-1", Some("-1.2")),
            ("7", Some("7")),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(java_text(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn reads_and_writes() {
        for (text, precision, scale, expected) in [
            ("12.345", 10, 2, Some(Some(1235))),
            ("-12.345", 10, 2, Some(Some(-1235))),
            ("1e3", 10, 1, Some(Some(10000))),
            ("1.5E-2", 10, 3, Some(Some(15))),
            (".5", 3, 1, Some(Some(5))),
            ("123", 2, 0, Some(None)),
            ("0.0004", 10, 3, Some(Some(0))),
            ("", 10, 0, None),
            ("1.2.3", 10, 0, None),
            ("abc", 10, 0, None),
        ] {
            assert_eq!(parse(text, precision, scale), expected, "{text}");
        }
        let text = |value, scale| {
            let mut out = String::new();
            write(&mut out, value, scale);
            out
        };
        assert_eq!(text(-5, 2), "-0.05");
        assert_eq!(text(12345, 2), "123.45");
        assert_eq!(text(7, 0), "7");
    }

    #[test]
    fn divides_and_multiplies_wide() {
        assert_eq!(divide((10, 0), (3, 0), 20, 6), Some(3_333_333));
        assert_eq!(divide((-20, 0), (3, 0), 20, 0), Some(-7));
        assert_eq!(divide((1, 0), (0, 0), 20, 6), None);
        let big = 10i128.pow(37);
        assert_eq!(divide((big, 0), (big, 0), 38, 6), Some(1_000_000));
        assert_eq!(multiply((big, 30), (big, 30), 38, 6), Some(10i128.pow(20)));
        assert_eq!(multiply((big, 0), (10, 0), 38, 0), None);
    }
}
