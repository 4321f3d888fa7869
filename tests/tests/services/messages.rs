//! Messages of tests: a number each, under a name.

/// A message type of that name.
macro_rules! message {
    ($name:ident) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $name {
            #[prost(uint32, tag = "1")]
            number: u32,
        }
        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = "test.v1";
        }
    };
}
