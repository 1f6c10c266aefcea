//! Numbers out of frames whose shape is known, without parsing the rest.

/// A number behind a name, as in `"seq":45`. Looks first where it was last time.
#[derive(Clone, Debug)]
pub(in super::super) struct Field {
    name: &'static [u8],
    last_at: usize,
}

impl Field {
    pub(in super::super) fn new(name: &'static str) -> Self {
        Self { name: name.as_bytes(), last_at: 0 }
    }

    /// The number, and where it ends.
    pub(in super::super) fn find(&mut self, text: &[u8], from: usize) -> Option<(u64, usize)> {
        let is_at = |at: usize| text.get(at..at + self.name.len()) == Some(self.name);
        let at = if self.last_at >= from && is_at(self.last_at) {
            self.last_at
        } else {
            let rest = text.get(from..)?;
            from + rest.windows(self.name.len()).position(|window| window == self.name)?
        };
        self.last_at = at;
        number(text, at + self.name.len())
    }
}

/// The digits at a place.
pub(in super::super) fn number(text: &[u8], from: usize) -> Option<(u64, usize)> {
    let digits = text.get(from..)?.iter().take_while(|byte| byte.is_ascii_digit());
    let (mut value, mut ends) = (0_u64, from);
    for digit in digits {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        ends += 1;
    }
    (ends > from).then_some((value, ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_wherever_it_is() {
        let mut seq = Field::new("\"seq\":");
        assert_eq!(seq.find(b"{\"seq\":45,\"t\":1}", 0), Some((45, 9)));
        assert_eq!(seq.find(b"{\"table\":\"x\",\"seq\":46}", 0), Some((46, 21)));
        assert_eq!(seq.find(b"{\"seq\":7}", 0), Some((7, 8)));
        assert_eq!(seq.find(b"{\"seq\":\"no\"}", 0), None);
        assert_eq!(seq.find(b"{}", 0), None);
    }
}
