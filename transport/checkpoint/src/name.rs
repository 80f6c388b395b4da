//! Names of states and cursors: they come from outside and end up in keys, messages and other people's terminals.

use std::fmt;

/// Longest name, in bytes. LMDB's keys end at 511.
pub const MAX_NAME: usize = 128;

/// A name that is not allowed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// No characters.
    Empty,
    /// More than [`MAX_NAME`] bytes.
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Something other than letters, digits, `-`, `_`, `.`, `:` and `/`, or a leading one of these but a letter or digit.
    Character {
        /// The character.
        character: char,
        /// Its byte offset.
        offset: usize,
    },
}

/// Checks that `name` can name a state or cursor.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong { len: name.len() });
    }
    let allowed = |(offset, c): &(usize, char)| {
        c.is_ascii_alphanumeric() || *offset > 0 && matches!(c, '-' | '_' | '.' | ':' | '/')
    };
    match name.char_indices().find(|at| !allowed(at)) {
        None => Ok(()),
        Some((offset, character)) => Err(NameError::Character { character, offset }),
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("name is empty"),
            NameError::TooLong { len } => write!(f, "name of {len} bytes, at most {MAX_NAME} are allowed"),
            NameError::Character { character, offset } => write!(
                f,
                "name has '{}' at {offset}: letters, digits and, but for the first, - _ . : / are allowed",
                character.escape_default()
            ),
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_checked() {
        for good in ["book", "a", "BTC-USD", "venue/btc.1:x_y", &"n".repeat(MAX_NAME)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(check(&"n".repeat(129)), Err(NameError::TooLong { len: 129 }));
        for (bad, character, offset) in
            [("..", '.', 0), ("/etc", '/', 0), ("a b", ' ', 1), ("a\0", '\0', 1), ("é", 'é', 0), ("a\n", '\n', 1)]
        {
            assert_eq!(check(bad), Err(NameError::Character { character, offset }));
        }
        assert_eq!(
            check("a\u{1b}").unwrap_err().to_string(),
            "name has '\\u{1b}' at 1: letters, digits and, but for the first, - _ . : / are allowed"
        );
    }
}
