//! A classic BPF program that chooses a socket as [`Steering`] chooses a shard.
//!
//! Linux runs it on each UDP payload that comes to a group of sockets at one address (socket(7),
//! SO_ATTACH_REUSEPORT_CBPF), and takes the socket of the number that it returns, in the order in
//! which they were bound. A number beyond the last leaves the choice to the kernel.

use nix::libc::sock_filter;

use crate::Steering;

/// Where the program keeps the two halves of the id, and what it has no register for.
const X: u32 = 0;
const Y: u32 = 1;
const SPARE: u32 = 2;

/// No socket has this number.
const NONE: u32 = u32::MAX;

// The accumulator is called A, the index register I (linux/bpf_common.h calls it X).
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const LOAD_A: u16 = 0x60;
const LOAD_I: u16 = 0x61;
const STORE_A: u16 = 0x02;
const A_TO_I: u16 = 0x07;
const I_TO_A: u16 = 0x87;
const SUBTRACT_I: u16 = 0x1c;
const XOR: u16 = 0xa4;
const XOR_I: u16 = 0xac;
const OR_I: u16 = 0x4c;
const SHIFT_LEFT: u16 = 0x64;
const SHIFT_RIGHT: u16 = 0x74;
const REMAINDER: u16 = 0x94;
const JUMP: u16 = 0x05;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;

/// The program: some 630 instructions, most of them the 27 rounds of the cipher.
pub(super) fn program(steering: &Steering) -> Vec<sock_filter> {
    let mut program = vec![
        step(LOAD_BYTE, 0),
        branch(JUMP_IF_ANY_BIT, 0x80, 0, 5),
        // A long header: the id's length, and the id, if it is one of those that name a shard.
        step(LOAD_BYTE, 5),
        branch(JUMP_IF_AT_LEAST, 8, 1, 0),
        step(RETURN, NONE),
        step(LOAD_WORD, 6),
        step(JUMP, 4),
        // A short one: the id.
        step(LOAD_WORD, 1),
        step(STORE_A, X),
        step(LOAD_WORD, 5),
        step(JUMP, 2),
        // The long one's again.
        step(STORE_A, X),
        step(LOAD_WORD, 10),
        step(STORE_A, Y),
    ];
    for round in steering.rounds().iter().rev() {
        // y = (x ^ y) >>> 3
        program.extend([step(LOAD_A, Y), step(LOAD_I, X), step(XOR_I, 0)]);
        program.extend(rotate_right(3));
        program.extend([step(STORE_A, Y), step(A_TO_I, 0)]);
        // x = ((x ^ round) - y) <<< 8
        program.extend([step(LOAD_A, X), step(XOR, *round), step(SUBTRACT_I, 0)]);
        program.extend(rotate_right(32 - 8));
        program.push(step(STORE_A, X));
    }
    program.extend([
        step(LOAD_A, X),
        step(REMAINDER, u32::from(steering.shards())),
        step(RETURN_A, 0),
    ]);
    program
}

/// Rotates A.
fn rotate_right(bits: u32) -> [sock_filter; 7] {
    [
        step(A_TO_I, 0),
        step(SHIFT_RIGHT, bits),
        step(STORE_A, SPARE),
        step(I_TO_A, 0),
        step(SHIFT_LEFT, 32 - bits),
        step(LOAD_I, SPARE),
        step(OR_I, 0),
    ]
}

fn step(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

/// Skips so many steps if the condition holds, or if not.
fn branch(code: u16, k: u32, holds: u8, else_: u8) -> sock_filter {
    sock_filter {
        code,
        jt: holds,
        jf: else_,
        k,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PersistentKeys;

    /// What the kernel's interpreter does; a load beyond the end returns 0.
    fn run(program: &[sock_filter], payload: &[u8]) -> u32 {
        let (mut a, mut i, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
        let mut at = 0;
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let place = k as usize;
            match code {
                LOAD_BYTE => match payload.get(place) {
                    Some(byte) => a = u32::from(*byte),
                    None => return 0,
                },
                LOAD_WORD => match payload.get(place..).and_then(|rest| rest.first_chunk()) {
                    Some(word) => a = u32::from_be_bytes(*word),
                    None => return 0,
                },
                LOAD_A => a = memory[place],
                LOAD_I => i = memory[place],
                STORE_A => memory[place] = a,
                A_TO_I => i = a,
                I_TO_A => a = i,
                SUBTRACT_I => a = a.wrapping_sub(i),
                XOR => a ^= k,
                XOR_I => a ^= i,
                OR_I => a |= i,
                SHIFT_LEFT => a <<= k,
                SHIFT_RIGHT => a >>= k,
                REMAINDER => a %= k,
                JUMP => at += place,
                JUMP_IF_ANY_BIT => at += usize::from(if a & k != 0 { jt } else { jf }),
                JUMP_IF_AT_LEAST => at += usize::from(if a >= k { jt } else { jf }),
                RETURN => return k,
                RETURN_A => return a,
                other => panic!("{other:x} is no instruction"),
            }
        }
    }

    #[test]
    fn it_fits_the_kernel() {
        let steering = PersistentKeys::new([1; 32], [2; 32]).steering(256);
        assert!(program(&steering).len() < 4_096 / 4);
    }

    #[test]
    fn an_id_that_names_nobody_is_left_to_the_kernel() {
        let program = program(&PersistentKeys::new([1; 32], [2; 32]).steering(3));
        let short_id = [&[0xc0, 0, 0, 0, 1, 7][..], &[9; 30]].concat();
        assert_eq!(run(&program, &short_id), NONE);
    }

    proptest! {
        #[test]
        fn it_chooses_as_steering_does(
            key: [u8; 32],
            shards in 2_u16..=256,
            payload in prop::collection::vec(any::<u8>(), 1..40),
            long: bool,
            length in 0_u8..=20,
        ) {
            let steering = PersistentKeys::new(key, [0; 32]).steering(shards);
            let mut payload = payload;
            payload[0] = payload[0] & 0x7f | u8::from(long) << 7;
            if let Some(place) = payload.get_mut(5).filter(|_| long) {
                *place = length;
            }
            let chosen = run(&program(&steering), &payload);
            match steering.shard_of(&payload) {
                Some(shard) => prop_assert_eq!(chosen, u32::from(shard)),
                None => prop_assert!(chosen == 0 || chosen == NONE, "{}", chosen),
            }
        }
    }
}
