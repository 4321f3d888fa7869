//! Commands in their turn, and broadcasts that wait for those before them to be sent.

use std::collections::VecDeque;
use std::time::Instant;

use super::command::{Command, Meanwhile};
use super::runtime::Io;
use super::turn::Driver;
use crate::session::BestEffort;

/// So many are done in one turn, before other tasks get theirs.
const COMMANDS: usize = 4_096;

/// Room that stays for so many.
const KEPT: usize = 1_024;

impl<I: Io> Driver<I> {
    /// Does what handles and handlers have asked for, in order. A broadcast that waits holds up what goes its way, and
    /// what changes who hears it with all that follows.
    pub(super) fn run_commands(&mut self, now: Instant) {
        let mut left = COMMANDS;
        while let Some(next) = self.held.pop_front() {
            if left == 0 || self.is_to_wait(now, &next) {
                self.held.push_front(next);
                break;
            }
            self.perform(now, next);
            left -= 1;
        }
        if self.held.is_empty() && self.held.capacity() > KEPT {
            self.held = VecDeque::new();
        }
        for _ in 0..left {
            let Some(command) = self.taken.pop_front() else {
                return;
            };
            if self.held.is_empty() && !self.is_to_wait(now, &command) {
                self.perform(now, command);
                continue;
            }
            match command.meanwhile() {
                Meanwhile::Passes => self.perform(now, command),
                Meanwhile::Follows => self.held.push_back(command),
                Meanwhile::Stops => {
                    self.taken.push_front(command);
                    return;
                }
            }
        }
    }

    /// Whether a command is left to do, now or later.
    pub(super) fn commands_wait(&self) -> bool {
        !self.taken.is_empty() || !self.held.is_empty()
    }

    /// Whether it is a broadcast that had better wait.
    fn is_to_wait(&self, now: Instant, command: &Command) -> bool {
        let Command::Broadcast(next) = command else {
            return false;
        };
        let bytes = BestEffort::queued_bytes(&next.message.body);
        !self.gathering.takes(now, bytes)
    }
}
