//! The device filter of cgroup v2: a list of rules becomes a program for the kernel's BPF machine.
//!
//! The kernel calls it at each open(2) or mknod(2) of a device node with what is wanted: type, access, major and minor number. The
//! last rule that speaks of an access decides on it, so the program asks the rules backwards. Of what is wanted (r3), an allowing
//! rule takes its accesses off, and when nothing is left, all is granted; a denying rule that meets one still wanted ends it.
//!
//! ```text
//! r2 = *(u32 *)(r1 + 0); r3 = r2 >> 16; r2 &= 0xffff; r4 = *(u32 *)(r1 + 4); r5 = *(u32 *)(r1 + 8)
//! a rule:  if r2 != type goto next; if r4 != major goto next; if r5 != minor goto next
//!          allow:  r3 &= ~access; if r3 != 0 goto next; r0 = 1; exit
//!          deny:   r6 = r3; r6 &= access; if r6 == 0 goto next; r0 = 0; exit
//! the end: r0 = 0; exit
//! ```
//!
//! See it: `bpftool prog dump xlated name onggi_devices`. Read: Documentation/bpf/standardization/instruction-set.rst,
//! cgroup-v2.rst ("Device controller"), `struct bpf_cgroup_dev_ctx` in include/uapi/linux/bpf.h.

use super::devices::{Kind, Rule};
use crate::sys::bpf::Instruction;

// Opcodes: class in the low three bits, operation and source above (instruction-set.rst, "Instruction encoding").
const LOAD_WORD: u8 = 0x61; // dst = *(u32 *)(src + offset)
const MOVE: u8 = 0xb7; // dst = immediate
const MOVE_REGISTER: u8 = 0xbf; // dst = src
const AND_32: u8 = 0x54; // dst &= immediate, upper half becomes 0
const SHIFT_RIGHT: u8 = 0x77; // dst >>= immediate
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

/// What the registers are for: r0 is the answer, r1 the context that the kernel passes.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// The program that grants what `rules` grant (later ones win), and nothing else.
pub fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        load(TYPE, CONTEXT, 0),
        Instruction { code: MOVE_REGISTER, registers: WANTED | TYPE << 4, offset: 0, immediate: 0 },
        with_number(SHIFT_RIGHT, WANTED, 16),
        with_number(AND_32, TYPE, 0xffff),
        load(MAJOR, CONTEXT, 4),
        load(MINOR, CONTEXT, 8),
    ];
    for rule in rules.iter().rev() {
        let block = block(rule);
        // A rule for everything leaves nothing to ask, and the verifier refuses instructions that can't be reached.
        let last = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none() && rule.access == Rule::ALL;
        program.extend(block);
        if last {
            return program;
        }
    }
    program.extend(verdict(false));
    program
}

/// One rule: its conditions jump past its end.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut block = Vec::new();
    if let Some(kind) = rule.kind {
        block.push(with_number(JUMP_IF_NOT, TYPE, if kind == Kind::Block { 1 } else { 2 }));
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        block.extend(number.map(|number| with_number(JUMP_IF_NOT, register, number as i32)));
    }
    let access = i32::from(rule.access);
    if rule.access == Rule::ALL {
        // Whatever is wanted is spoken of.
    } else if rule.allow {
        block.push(with_number(AND_32, WANTED, !access));
        block.push(with_number(JUMP_IF_NOT, WANTED, 0));
    } else {
        block.push(Instruction { code: MOVE_REGISTER, registers: SCRATCH | WANTED << 4, offset: 0, immediate: 0 });
        block.push(with_number(AND_32, SCRATCH, access));
        block.push(with_number(JUMP_IF_EQUAL, SCRATCH, 0));
    }
    block.extend(verdict(rule.allow));
    let length = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_IF_NOT | JUMP_IF_EQUAL) {
            // Counted from the instruction after the jump.
            instruction.offset = (length - at - 1) as i16;
        }
    }
    block
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [with_number(MOVE, ANSWER, allow.into()), with_number(EXIT, 0, 0)]
}

fn load(to: u8, from: u8, offset: i16) -> Instruction {
    Instruction { code: LOAD_WORD, registers: to | from << 4, offset, immediate: 0 }
}

fn with_number(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate }
}

#[cfg(test)]
mod tests {
    use super::super::devices::{MKNOD, READ, WRITE, default_rules, rules};
    use super::*;
    use crate::runtime::spec::DeviceRule;
    use proptest::prelude::*;

    /// The BPF machine, as far as our programs use it.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = ((pair & 15) as usize, (pair >> 4) as usize);
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                MOVE => registers[to] = immediate as i64 as u64,
                MOVE_REGISTER => registers[to] = registers[from],
                AND_32 => registers[to] = (registers[to] as u32 & immediate as u32).into(),
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_IF_EQUAL if registers[to] == immediate as i64 as u64 => at += offset as usize,
                JUMP_IF_NOT if registers[to] != immediate as i64 as u64 => at += offset as usize,
                JUMP_IF_EQUAL | JUMP_IF_NOT => {}
                EXIT => return registers[0] == 1,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    /// What the rules mean, said without a machine: the last rule that speaks of an access decides on it.
    fn meaning(rules: &[Rule], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
        [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let speaks = |rule: &&Rule| {
                rule.kind.is_none_or(|k| k == kind)
                    && rule.major.is_none_or(|m| m == major)
                    && rule.minor.is_none_or(|m| m == minor)
                    && rule.access & bit != 0
            };
            rules.iter().rev().find(speaks).is_some_and(|rule| rule.allow)
        })
    }

    fn deny_all() -> DeviceRule {
        DeviceRule { allow: false, access: Some("rwm".into()), ..DeviceRule::default() }
    }

    #[test]
    fn a_container_may_use_the_usual_devices_and_make_but_not_open_others() {
        let mut list = vec![deny_all()];
        list.extend(default_rules());
        let program = assemble(&rules(&list).unwrap());
        let (block, char) = (1, 2);
        assert!(run(&program, char, 2 | 4, 1, 3), "read and write /dev/null");
        assert!(run(&program, char, 1, 10, 200), "mknod of any");
        assert!(!run(&program, char, 2, 10, 200), "but not its use");
        assert!(!run(&program, block, 2, 8, 0), "no disk");
        assert!(!run(&program, block, 1 | 2, 8, 0), "an access in part allowed is refused");
        assert!(run(&program, char, 2, 136, 77), "any pseudo terminal");
    }

    #[test]
    fn a_rule_for_everything_ends_the_program() {
        let everything = DeviceRule { allow: true, ..DeviceRule::default() };
        let program = assemble(&rules(&[deny_all(), everything]).unwrap());
        assert_eq!(program.len(), 8, "the head and one verdict: nothing that can't be reached");
        assert!(run(&program, 1, 7, 8, 0));
    }

    #[test]
    fn no_rules_grant_nothing() {
        assert!(!run(&assemble(&[]), 2, 2, 1, 3));
    }

    proptest! {
        #[test]
        fn the_program_does_what_the_rules_mean(
            list in prop::collection::vec((any::<bool>(), prop::option::of(any::<bool>()), prop::option::of(0u32..3), prop::option::of(0u32..3), 1u8..8), 0..9),
            access in 1u8..8, block in any::<bool>(), major in 0u32..3, minor in 0u32..3,
        ) {
            let name = |block| if block { Kind::Block } else { Kind::Char };
            let list: Vec<Rule> = list.into_iter().map(|(allow, kind, major, minor, access)| Rule { allow, kind: kind.map(name), major, minor, access }).collect();
            let program = assemble(&list);
            let answer = run(&program, if block { 1 } else { 2 }, access.into(), major, minor);
            prop_assert_eq!(answer, meaning(&list, name(block), access, major, minor));
            // The verifier walks the same: no jump out of the program, and the last instruction is an exit.
            prop_assert_eq!(program.last().unwrap().code, EXIT);
        }
    }
}
