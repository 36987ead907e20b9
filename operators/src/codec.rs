//! Numbers and bytes in values of keyed state.

use weir_dataflow::{Error, Result};

/// First byte of every value: the layout of what follows.
pub const VERSION: u8 = 1;

/// An unsigned number, LEB128.
pub fn put_unsigned(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A signed number, zigzag and LEB128.
pub fn put_signed(value: i64, out: &mut Vec<u8>) {
    put_unsigned(((value << 1) ^ (value >> 63)) as u64, out);
}

/// Bytes with their length in front.
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_unsigned(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote.
pub struct Reader<'a>(pub &'a [u8]);

fn broken() -> Error {
    Error::State("a value of an aggregation's state is broken".to_owned())
}

impl<'a> Reader<'a> {
    /// After the version.
    ///
    /// # Errors
    /// If the layout is of a later version.
    pub fn new(value: &'a [u8]) -> Result<Self> {
        match value.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some((version, _)) => Err(Error::Restore(format!(
                "an aggregation's state has layout {version}, this version of Weir reads {VERSION}"
            ))),
            None => Err(broken()),
        }
    }

    /// The next bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(broken)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next bytes, as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| broken())
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// See [`put_unsigned`].
    pub fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken())
    }

    /// See [`put_signed`].
    pub fn signed(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// See [`put_bytes`].
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.unsigned()?;
        self.take(usize::try_from(length).map_err(|_| broken())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive() {
        for value in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut out = vec![VERSION];
            put_signed(value, &mut out);
            put_bytes(b"abc", &mut out);
            let mut reader = Reader::new(&out).unwrap();
            assert_eq!(reader.signed().unwrap(), value);
            assert_eq!(reader.bytes().unwrap(), b"abc");
            assert!(reader.byte().is_err());
        }
        assert!(Reader::new(&[9]).is_err());
    }
}
