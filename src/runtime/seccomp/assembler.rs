//! Classic BPF, written from its end.
//!
//! A BPF program only ever jumps forwards, by a distance of at most 255 for a comparison. Who writes it from the last instruction to
//! the first knows every target before the jump to it: no placeholders, no second pass. A [`Label`] is an instruction that is
//! already written; each method puts one before all others and gives its label.
//!
//! The machine: one 32-bit accumulator A, the struct `seccomp_data` to load from, comparisons with constants, verdicts. The few
//! instructions used here are also the ones that the kernel can evaluate beforehand: since Linux 5.11 it finds out, when a filter
//! is loaded, which numbers are allowed whatever their arguments, and runs no filter at all for those (kernel/seccomp.c,
//! `seccomp_is_const_allow`).
//!
//! See it: `bpftool` knows eBPF only; `scmp_bpf_disasm` prints this kind. Read: bpf(4) of FreeBSD, seccomp_filter.rst.

use super::profile::{Comparison, Condition};
use crate::sys::seccomp::Instruction;

/// Offsets in `struct seccomp_data` (seccomp(2)).
pub const NUMBER: u32 = 0;
pub const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// An instruction already written, counted from the program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// What a jump compares A with `k` by.
#[derive(Debug, Clone, Copy)]
pub enum Jump {
    Equal,
    Greater,
    AtLeast,
}

/// A program in the making. The instructions are in reverse.
#[derive(Debug, Default)]
pub struct Assembler {
    reversed: Vec<Instruction>,
    /// The verdicts that were written last, to be jumped to again while they are near.
    verdicts: Vec<(u32, Label)>,
}

impl Assembler {
    /// "The verdict is `action`."
    pub fn verdict(&mut self, action: u32) -> Label {
        let known = self.verdicts.iter().position(|(verdict, _)| *verdict == action);
        // One that is too far for a comparison is written again: that costs no more than the long jump to it.
        match known {
            // 200 leaves room for what is put between before the jump is written.
            Some(at) if self.distance(self.verdicts[at].1) < 200 => self.verdicts[at].1,
            _ => {
                let label = self.push(libc::BPF_RET | libc::BPF_K, action, 0, 0);
                match known {
                    Some(at) => self.verdicts[at].1 = label,
                    None => self.verdicts.push((action, label)),
                }
                label
            }
        }
    }

    /// "A is the 32 bits at `offset`; go on at `next`."
    pub fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
    }

    /// "If A compares with `k`, go on at `yes`, else at `no`."
    pub fn branch(&mut self, jump: Jump, k: u32, mut yes: Label, mut no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // A target out of reach gets a stepping stone, which moves the other target one further away: look at both again.
        loop {
            if self.distance(no) > u8::MAX as usize {
                no = self.jump_to(no);
            } else if self.distance(yes) > u8::MAX as usize {
                yes = self.jump_to(yes);
            } else {
                break;
            }
        }
        let code = match jump {
            Jump::Equal => libc::BPF_JEQ,
            Jump::Greater => libc::BPF_JGT,
            Jump::AtLeast => libc::BPF_JGE,
        };
        self.push(libc::BPF_JMP | code | libc::BPF_K, k, self.distance(yes) as u8, self.distance(no) as u8)
    }

    /// "If the call's argument meets the condition, go on at `yes`, else at `no`." `narrow`: look at its lower 32 bits only.
    pub fn condition(&mut self, condition: &Condition, narrow: bool, yes: Label, no: Label) -> Label {
        use Comparison::*;
        // Half of the comparisons are the other half, negated.
        match condition.comparison {
            Equal => self.compare_equal(condition, narrow, u64::MAX, yes, no),
            MaskedEqual { mask } => self.compare_equal(condition, narrow, mask, yes, no),
            NotEqual => self.compare_equal(condition, narrow, u64::MAX, no, yes),
            Greater => self.compare_order(condition, narrow, Jump::Greater, yes, no),
            GreaterOrEqual => self.compare_order(condition, narrow, Jump::AtLeast, yes, no),
            LessOrEqual => self.compare_order(condition, narrow, Jump::Greater, no, yes),
            Less => self.compare_order(condition, narrow, Jump::AtLeast, no, yes),
        }
    }

    /// Equal is: the upper halves are equal, and the lower halves are. (Written from the end, the lower come first.)
    fn compare_equal(&mut self, condition: &Condition, narrow: bool, mask: u64, yes: Label, no: Label) -> Label {
        let mut next = yes;
        for upper in [false, true] {
            let (shift, mask_half) = if upper { (32, (mask >> 32) as u32) } else { (0, mask as u32) };
            // No bit of this half is asked for: it is always equal.
            if mask_half == 0 || (upper && narrow) {
                continue;
            }
            next = self.branch(Jump::Equal, (condition.value >> shift) as u32 & mask_half, next, no);
            if mask_half != u32::MAX {
                self.fall_into(next);
                next = self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask_half, 0, 0);
            }
            next = self.load(half(condition.index, upper), next);
        }
        next
    }

    /// Greater is: the upper half is greater, or it is equal and the lower half is greater.
    fn compare_order(&mut self, condition: &Condition, narrow: bool, jump: Jump, yes: Label, no: Label) -> Label {
        let (upper, lower) = ((condition.value >> 32) as u32, condition.value as u32);
        let next = self.branch(jump, lower, yes, no);
        let next = self.load(half(condition.index, false), next);
        if narrow {
            return next;
        }
        let next = self.branch(Jump::Equal, upper, next, no);
        let next = self.branch(Jump::Greater, upper, yes, next);
        self.load(half(condition.index, true), next)
    }

    /// The program, in the order in which it runs, from `entry` on.
    pub fn finish(mut self, entry: Label) -> Vec<Instruction> {
        self.fall_into(entry);
        self.reversed.reverse();
        self.reversed
    }

    /// Sees to it that the next instruction to be written is followed by `next`.
    fn fall_into(&mut self, next: Label) {
        if self.distance(next) != 0 {
            self.jump_to(next);
        }
    }

    fn jump_to(&mut self, target: Label) -> Label {
        let at = self.reversed[target.0];
        // Instead of a jump to a verdict: the verdict.
        if at.code == (libc::BPF_RET | libc::BPF_K) as u16 {
            return self.push(libc::BPF_RET | libc::BPF_K, at.k, 0, 0);
        }
        self.push(libc::BPF_JMP | libc::BPF_JA, self.distance(target) as u32, 0, 0)
    }

    /// How many instructions lie between the one to be written next and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target.0
    }

    fn push(&mut self, code: u32, k: u32, jump_true: u8, jump_false: u8) -> Label {
        self.reversed.push(Instruction { code: code as u16, jump_true, jump_false, k });
        Label(self.reversed.len() - 1)
    }
}

/// The offset of one half of an argument. All machines of ours are little-endian: the upper half comes second.
fn half(index: u32, upper: bool) -> u32 {
    ARGUMENTS + 8 * index + if upper { 4 } else { 0 }
}
