//! Damage to recorded input: edits that are drawn one by one, so that what fails can be shrunk to few of them.

use proptest::{collection::vec, prelude::*, sample::Index, strategy::BoxedStrategy};

/// Words that parsers trip over, of whatever format: numbers at the edges of their types, marks that separate or end
/// something, characters that are longer than a byte, and nothing.
const WORDS: [&str; 36] = [
    "",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "-",
    "--",
    "/",
    "..",
    ":",
    ",",
    ".",
    "|",
    "\"",
    "{",
    "}",
    "[",
    "]",
    "\\",
    "\u{e4}",
    "\u{1f6a2}",
    "0",
    "-1",
    "+1",
    "1.5",
    "00",
    "0x10",
    "1e400",
    "65536",
    "4294967295",
    "4294967296",
    "42949672.99",
    "18446744073709551615",
    "18446744073709551616",
    "null",
];

/// More edits than that only make noise, at which readers stop early.
const MOST_EDITS: usize = 6;

#[derive(Clone, Debug)]
enum Edit {
    /// One bit is another.
    Flip { at: Index, bit: u8 },
    /// One byte is another.
    Set { at: Index, byte: u8 },
    /// A word stands where none stood.
    Insert { at: Index, word: Index },
    /// A word or number of the format has become another one.
    Exchange { at: Index, word: Index },
    /// Some bytes are missing.
    Remove { at: Index, length: usize },
    /// Some bytes come again and again.
    Repeat { at: Index, length: usize, times: usize },
    /// The rest is missing.
    Cut { at: Index },
    /// The rest is that of another sample.
    Graft { at: Index, sample: Index, from: Index },
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        2 => (at(), 0_u8..8).prop_map(|(at, bit)| Edit::Flip { at, bit }),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set { at, byte }),
        2 => (at(), at()).prop_map(|(at, word)| Edit::Insert { at, word }),
        4 => (at(), at()).prop_map(|(at, word)| Edit::Exchange { at, word }),
        2 => (at(), 1_usize..40).prop_map(|(at, length)| Edit::Remove { at, length }),
        1 => (at(), 1_usize..40, 1_usize..200)
            .prop_map(|(at, length, times)| Edit::Repeat { at, length, times }),
        1 => at().prop_map(|at| Edit::Cut { at }),
        1 => (at(), at(), at()).prop_map(|(at, sample, from)| Edit::Graft { at, sample, from }),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, samples: &[Vec<u8>], words: &[Vec<u8>]) {
        // One more than there are bytes: the place behind the last one.
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Edit::Flip { at, bit } => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1 << bit;
                }
            }
            Edit::Set { at, byte } => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            Edit::Insert { at, word } => {
                let at = place(at, bytes);
                bytes.splice(at..at, word.get(words).iter().copied());
            }
            Edit::Exchange { at, word } => {
                let at = place(at, bytes);
                let is_outside = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"._-".contains(byte);
                let start = bytes[..at].iter().rposition(is_outside).map_or(0, |outside| outside + 1);
                let end = bytes[at..].iter().position(is_outside).map_or(bytes.len(), |outside| at + outside);
                bytes.splice(start..end, word.get(words).iter().copied());
            }
            Edit::Remove { at, length } => {
                let at = place(at, bytes);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Edit::Repeat { at, length, times } => {
                let at = place(at, bytes);
                let end = bytes.len().min(at + length);
                let again = bytes[at..end].repeat(*times);
                bytes.splice(at..at, again);
            }
            Edit::Cut { at } => bytes.truncate(place(at, bytes)),
            Edit::Graft { at, sample, from } => {
                let sample = sample.get(samples);
                bytes.truncate(place(at, bytes));
                bytes.extend_from_slice(&sample[place(from, sample)..]);
            }
        }
    }
}

/// Bytes: mostly one of `samples` with a few edits, sometimes none, sometimes anything. `words` are the format's own:
/// edits put them where they do not belong.
///
/// # Panics
/// Without a sample.
pub fn bytes(samples: &[&[u8]], words: &[&str]) -> BoxedStrategy<Vec<u8>> {
    assert!(!samples.is_empty(), "damage needs something to damage");
    let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.to_vec()).collect();
    let words: Vec<Vec<u8>> = WORDS.iter().chain(words).map(|word| word.as_bytes().to_vec()).collect();
    let damaged = (any::<Index>(), vec(edit(), 0..=MOST_EDITS)).prop_map(move |(sample, edits)| {
        let mut bytes = sample.get(&samples).clone();
        for edit in edits {
            edit.apply(&mut bytes, &samples, &words);
        }
        bytes
    });
    prop_oneof![15 => damaged, 1 => vec(any::<u8>(), 0..300)].boxed()
}

/// As [`bytes`], in UTF-8: what is not is replaced, as where a tool's output is read.
///
/// # Panics
/// Without a sample.
pub fn texts(samples: &[&str], words: &[&str]) -> BoxedStrategy<String> {
    let samples: Vec<&[u8]> = samples.iter().map(|sample| sample.as_bytes()).collect();
    bytes(&samples, words).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).boxed()
}

/// Hands out `whole` without its last bytes, for every number of them.
pub fn each_cut(whole: &[u8], mut take: impl FnMut(usize, &[u8])) {
    for length in 0..whole.len() {
        take(length, &whole[..length]);
    }
}

/// Hands out `whole` with one bit flipped, once for every byte.
pub fn each_flip(whole: &[u8], mut take: impl FnMut(usize, &[u8])) {
    let mut flipped = whole.to_vec();
    for at in 0..whole.len() {
        let bit = 1 << (at % 8);
        flipped[at] ^= bit;
        take(at, &flipped);
        flipped[at] ^= bit;
    }
}
