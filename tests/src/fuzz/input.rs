//! An input, read a byte at a time: small inputs mean something, and what is not there is 0.

/// Reads a fuzzer's input from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Most significant byte first.
    pub(crate) fn short(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    /// Any number: a byte says how many bytes follow, and how they are spread.
    pub(crate) fn long(&mut self) -> u64 {
        let how = self.byte();
        match how {
            0..0xc0 => u64::from(how),
            0xc0..0xe0 => u64::from(self.short()),
            // Around powers of two.
            0xe0..0xf0 => (1_u64 << (self.byte() & 63))
                .wrapping_add(u64::from(how & 15))
                .wrapping_sub(8),
            0xf0..0xf8 => u64::from(self.short()) << 16 | u64::from(self.short()),
            _ => (0..8).fold(0, |value, _| value << 8 | u64::from(self.byte())),
        }
    }

    /// One of these.
    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let at = usize::from(self.byte()) % of.len();
        of[at].clone()
    }

    /// At most so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A length of a byte, and as many bytes.
    pub(crate) fn block(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.bytes(length.into())
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}
