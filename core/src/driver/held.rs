//! Commands in their turn, and broadcasts that wait for those before them to be sent.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::command::{Command, Meanwhile};
use super::runtime::Io;
use super::turn::Driver;
use crate::SessionKey;
use crate::session::BestEffort;

/// So many are done in one turn, before other tasks get theirs.
const COMMANDS: usize = 4_096;

/// Of broadcasts that wait when all ends, so many bytes for each session are queued before something is sent.
const HANDFUL: usize = 8 << 10;

/// Room that stays for so many.
const KEPT: usize = 1_024;

/// Broadcasts that wait for those before them to be sent, and what has its turn behind them.
#[derive(Default)]
pub(super) struct Held {
    commands: VecDeque<Command>,
    /// Sessions that one of those closes: what is sent to them is behind it.
    closing: BTreeSet<SessionKey>,
    /// One of those ends all: none waits any more.
    ends: bool,
}

impl Held {
    /// All that is left.
    pub(super) fn take(&mut self) -> VecDeque<Command> {
        std::mem::take(self).commands
    }
}

impl<I: Io> Driver<I> {
    /// Does what handles and handlers have asked for, in order. A broadcast that waits holds up what goes its way, and
    /// what changes who hears it.
    pub(super) fn run_commands(&mut self, now: Instant) {
        let mut left = COMMANDS;
        self.run_held(now, &mut left);
        while left > 0 && !self.held.ends {
            let Some(command) = self.taken.pop_front() else {
                return;
            };
            left -= 1;
            if self.held.commands.is_empty() && !self.is_to_wait(now, &command) {
                self.perform(now, command);
                continue;
            }
            let held = &mut self.held;
            match command.meanwhile() {
                Meanwhile::Passes => {
                    let to = command.sends_to();
                    match to.is_some_and(|session| held.closing.contains(&session)) {
                        true => held.commands.push_back(command),
                        false => self.perform(now, command),
                    }
                }
                Meanwhile::Follows => held.commands.push_back(command),
                Meanwhile::Closes(session) => {
                    held.closing.insert(session);
                    held.commands.push_back(command);
                }
                Meanwhile::Ends => {
                    held.ends = true;
                    held.commands.push_back(command);
                    self.run_held(now, &mut left);
                }
            }
        }
    }

    /// Does what need wait no longer. What closes a session waits until something was sent of the broadcasts before it.
    fn run_held(&mut self, now: Instant, left: &mut usize) {
        let mut queued = 0;
        while let Some(next) = self.held.commands.pop_front() {
            let meanwhile = next.meanwhile();
            let waits = match meanwhile {
                Meanwhile::Closes(_) | Meanwhile::Ends => queued > 0,
                // The end does not wait for every session's turn, but queues are not filled in one go either.
                Meanwhile::Follows | Meanwhile::Passes if self.held.ends => {
                    queued >= HANDFUL && matches!(next, Command::Broadcast(_))
                }
                Meanwhile::Follows | Meanwhile::Passes => self.is_to_wait(now, &next),
            };
            if waits || *left == 0 {
                self.held.commands.push_front(next);
                return;
            }
            if let Meanwhile::Closes(session) = meanwhile {
                self.held.closing.remove(&session);
            }
            if let Command::Broadcast(next) = &next {
                queued += BestEffort::queued_bytes(&next.message.body);
            }
            self.perform(now, next);
            *left -= 1;
        }
        self.held.ends = false;
        if self.held.commands.capacity() > KEPT {
            self.held.commands = VecDeque::new();
        }
    }

    /// Whether a command is left to do, now or later.
    pub(super) fn commands_wait(&self) -> bool {
        !self.taken.is_empty() || !self.held.commands.is_empty()
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
