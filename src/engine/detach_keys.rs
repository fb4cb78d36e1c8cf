//! The keys that end an attendance and not the container: Ctrl-P Ctrl-Q, or others.
//!
//! Read: docker-attach(1), `--detach-keys`.

/// The keys that end the attendance. A beginning of them is held back until the next key decides.
pub struct Keys {
    keys: Vec<u8>,
    matched: usize,
    /// All of them were typed.
    pub pressed: bool,
}

impl Keys {
    pub fn new(keys: Vec<u8>) -> Keys {
        Keys { keys, matched: 0, pressed: false }
    }

    /// Takes them out of what was typed.
    pub fn take_out(&mut self, bytes: &mut Vec<u8>) {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes.drain(..) {
            if self.pressed {
                break;
            }
            if self.keys.get(self.matched) != Some(&byte) && self.matched > 0 {
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if !self.keys.is_empty() && self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                self.pressed = self.matched == self.keys.len();
            } else {
                passed.push(byte);
            }
        }
        *bytes = passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_keys_are_taken_out_and_a_beginning_of_them_is_not_lost() {
        let mut keys = Keys::new(vec![16, 17]);
        let mut feed = |text: &[u8]| {
            let mut bytes = text.to_vec();
            keys.take_out(&mut bytes);
            (bytes, keys.pressed)
        };
        assert_eq!(feed(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(feed(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(feed(b"\x10\x10\x11z"), (b"\x10".to_vec(), true));
    }
}
