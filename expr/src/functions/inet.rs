//! IPv4 addresses as numbers.

use arrow::array::ArrayRef;
use arrow::datatypes::Int64Type;
use datafusion_common::Result;
use weir_dataflow::types::LogicalType as T;

use super::call::{Call, numbers, put, texts};
use super::function::Function;
use super::params::Param;
use crate::coerce::types::STRING;

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("INET_ATON", &[Param::Text], T::BigInt, aton),
        Function::new("INET_NTOA", &[Param::BigInt], STRING, ntoa),
    ]
}

/// "127.0.0.1" as a number. Of fewer than four parts the last one is the lowest byte: "127.1" is the same address.
fn number(address: &str) -> Option<i64> {
    let parts: Vec<&str> = address.split('.').collect();
    if parts.len() > 4 {
        return None;
    }
    let byte = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let significant = part.trim_start_matches('0');
        match significant {
            _ if !digits => None,
            "" => Some(0),
            significant => significant.parse::<u8>().ok().map(i64::from),
        }
    };
    let (last, leading) = parts.split_last()?;
    let mut number = byte(last)?;
    for (index, part) in leading.iter().enumerate() {
        number += byte(part)? << (24 - 8 * index);
    }
    Some(number)
}

fn aton(call: &Call) -> Result<ArrayRef> {
    let address = call.text(0)?;
    numbers::<Int64Type>(call.rows, |row| number(address.get(row)?))
}

fn ntoa(call: &Call) -> Result<ArrayRef> {
    let number = call.primitive::<Int64Type>(0)?;
    texts(call.rows, |row, out| {
        let number = u32::try_from(number.get(row)?).ok()?;
        put(out, &std::net::Ipv4Addr::from(number).to_string());
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::testing::*;

    #[test]
    fn addresses() {
        check(vec![
            ("INET_ATON", args!["127.0.0.1"], "2130706433"),
            ("INET_ATON", args!["127.1"], "2130706433"),
            ("INET_ATON", args!["192.168.1"], "3232235521"),
            ("INET_ATON", args!["010.000.000.001"], "167772161"),
            ("INET_ATON", args!["256"], "NULL"),
            ("INET_ATON", args!["1.2.3.4.5"], "NULL"),
            ("INET_ATON", args!["1..2.3"], "NULL"),
            ("INET_ATON", args![" 127.0.0.1"], "NULL"),
            ("INET_NTOA", args![2130706433i64], "127.0.0.1"),
            ("INET_NTOA", args![-1], "NULL"),
            ("INET_NTOA", args![4294967296i64], "NULL"),
            ("INET_NTOA", args![null(T::BigInt)], "NULL"),
        ]);
    }
}
