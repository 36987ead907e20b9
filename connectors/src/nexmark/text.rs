//! The texts of events. Long ones are substrings of texts that are made once a process, channels and URLs come from a table: making a text
//! is one copy of bytes.

use std::sync::OnceLock;

use super::draw::scale;

const TEXT_BYTES: usize = 1 << 20;
const CHANNELS: usize = 10_000;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// What all readers of the process share; independent of the seed.
pub(super) struct Texts {
    padding: Vec<u8>,
    words: Vec<u8>,
    channels: Vec<(String, String)>,
    hot: [(String, String); 4],
}

/// A small sequence for the tables; SplitMix64.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        scale(bits ^ (bits >> 31), bound)
    }

    /// 3 or 4 letters, as in the paths of the public suite.
    fn segment(&mut self) -> String {
        let length = 3 + self.below(2);
        (0..length)
            .map(|_| match self.below(13) {
                0 => '_',
                _ => char::from(b'a' + self.below(26) as u8),
            })
            .collect()
    }

    fn url(&mut self) -> String {
        let (a, b, c) = (self.segment(), self.segment(), self.segment());
        format!("https://www.nexmark.com/{a}/{b}/{c}/item.htm?query=1")
    }
}

impl Texts {
    pub(super) fn get() -> &'static Self {
        static TEXTS: OnceLock<Texts> = OnceLock::new();
        TEXTS.get_or_init(Self::make)
    }

    fn make() -> Self {
        let mut sequence = Sequence(0x6e65_786d_6172_6b00);
        // The suite's 'a' + (a signed number mod 26) gives half of the characters from 'H' to '`'.
        let padding = (0..TEXT_BYTES)
            .map(|_| b'a' - 25 + sequence.below(51) as u8)
            .collect();
        let words = (0..TEXT_BYTES)
            .map(|_| match sequence.below(13) {
                0 => b' ',
                _ => b'a' + sequence.below(26) as u8,
            })
            .collect();
        let hot = HOT_CHANNELS.map(|channel| (channel.to_owned(), sequence.url()));
        let channels = (0..CHANNELS)
            .map(|number| {
                let mut url = sequence.url();
                if sequence.below(10) > 0 {
                    let id = (number as i32).reverse_bits().unsigned_abs();
                    url.push_str(&format!("&channel_id={id}"));
                }
                (format!("channel-{number}"), url)
            })
            .collect();
        Self {
            padding,
            words,
            channels,
            hot,
        }
    }

    /// Channel and URL: half of the draws give one of four hot ones.
    #[inline]
    pub(super) fn channel(&self, bits: u64) -> &(String, String) {
        let index = scale(bits << 1, CHANNELS as u64 * 4) as usize;
        if bits >> 63 == 1 {
            &self.hot[index % 4]
        } else {
            &self.channels[index / 4]
        }
    }

    /// So many characters of noise.
    #[inline]
    pub(super) fn padding(&self, bits: u64, length: usize) -> &[u8] {
        let start = scale(bits, (TEXT_BYTES - length) as u64) as usize;
        &self.padding[start..start + length]
    }

    /// Words of at least 3 and less than `longest` characters, fewer if they begin or end with a blank.
    pub(super) fn words(&self, bits: u64, longest: u64) -> &[u8] {
        let length = 3 + scale(bits << 32, longest - 3) as usize;
        let start = scale(bits, (TEXT_BYTES - length) as u64) as usize;
        self.words[start..start + length].trim_ascii()
    }

    pub(super) fn name(&self, bits: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(pick(&FIRST_NAMES, bits).as_bytes());
        out.push(b' ');
        out.extend_from_slice(pick(&LAST_NAMES, bits << 32).as_bytes());
    }

    pub(super) fn city(&self, bits: u64) -> &'static str {
        pick(&CITIES, bits)
    }

    pub(super) fn state(&self, bits: u64) -> &'static str {
        pick(&STATES, bits)
    }
}

fn pick(choices: &[&'static str], bits: u64) -> &'static str {
    choices[scale(bits, choices.len() as u64) as usize]
}

/// Four groups of four digits.
pub(super) fn credit_card(bits: u64, out: &mut Vec<u8>) {
    for group in 0..4 {
        if group > 0 {
            out.push(b' ');
        }
        let number = scale(bits << (16 * group), 10_000);
        for divisor in [1000, 100, 10, 1] {
            out.push(b'0' + (number / divisor % 10) as u8);
        }
    }
}

/// Length of the padding that brings a record of `current` bytes to `average` on average, plus or minus a fifth of what is missing.
#[inline]
pub(super) fn padding_length(bits: u64, current: u64, average: u64) -> usize {
    let Some(missing) = average.checked_sub(current) else {
        return 0;
    };
    let delta = (missing + 2) / 5;
    (missing - delta + scale(bits << 32, (2 * delta).max(1))) as usize
}
