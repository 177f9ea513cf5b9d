//! The rule for every value that people type: it has one text form, `FromStr` and `Display` are its
//! only parser and printer, and files and sockets carry that same text. No value types in here.

use std::borrow::Cow;
use std::fmt;

use serde::de::Visitor;

/// Why a text is not a value: one sentence with what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{found}`")]
pub struct SyntaxError {
    /// What would have been accepted, with examples.
    pub expected: Cow<'static, str>,
    /// The text that was given.
    pub found: String,
}

impl SyntaxError {
    /// `found` where `expected` should be.
    pub fn new(expected: impl Into<Cow<'static, str>>, found: &str) -> Self {
        SyntaxError { expected: expected.into(), found: found.to_owned() }
    }
}

/// Reads a string, or a number as its digits, so that both meet the same parser.
pub(crate) struct TextVisitor(pub(crate) &'static str);

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<String, E> {
        Ok(n.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<String, E> {
        Ok(n.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<String, E> {
        Ok(n.to_string())
    }
}

/// Gives types that have `FromStr` and `Display` their serde form: the text.
macro_rules! serde_as_text {
    ($($value:ty: $expected:expr;)*) => {$(
        impl serde::Serialize for $value {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $value {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_any($crate::text::TextVisitor($expected))?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;

/// A fieldless enum whose variants each have one word: the enum, its `FromStr`, `Display` and serde
/// form, and the list of its words.
macro_rules! word_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $expected:literal {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word that files, flags and sockets use.
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text::SyntaxError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $name::ALL
                    .iter()
                    .copied()
                    .find(|variant| variant.word() == text)
                    .ok_or_else(|| $crate::text::SyntaxError::new($expected, text))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        $crate::text::serde_as_text! { $name: $expected; }
    };
}
pub(crate) use word_enum;
