//! The macro that both numbered code types are made with: each is one table of numbers, names
//! and sentences, so that no number can lack its name.

macro_rules! codes {
    (
        $(#[$type_doc:meta])*
        $type:ident, $otherwise:literal, $unknown_advice:literal;
        $($(#[$doc:meta])* $name:ident = $number:literal: $advice:literal;)*
    ) => {
        $(#[$type_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub u32);

        impl $type {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Every code with a name, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code's name in capitals, as PROTOCOL.md spells it; a word of its own for the
            /// numbers that have none.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    number if Self::is_applications(number) => "APPLICATION",
                    _ => $otherwise,
                }
            }

            /// What somebody who meets this code can do: one sentence.
            pub const fn advice(self) -> &'static str {
                match self.0 {
                    $($number => $advice,)*
                    _ => $unknown_advice,
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{} ({})", self.name(), self.0)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

pub(crate) use codes;
