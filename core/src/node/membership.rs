//! Who is in which group.

use std::time::Instant;

use crate::error::CommandError;
use crate::groups::GroupsFull;
use crate::id::{GroupName, SessionKey};
use crate::tap::Call;

use super::Node;

impl Node {
    /// Puts a client's session into a group. Membership ends with the session. Nothing has changed if it fails.
    ///
    /// # Errors
    /// [`CommandError::NotOfAClient`] for a session that this node dialled: its server has the groups.
    pub fn join(
        &mut self,
        now: Instant,
        session: SessionKey,
        group: &GroupName,
    ) -> Result<(), CommandError> {
        let call = || Call::Join {
            session,
            group: group.as_str(),
        };
        self.enter(now, call);
        let entry = self.sessions.get(session);
        if entry.ok_or(CommandError::UnknownSession)?.is_dialled() {
            return Err(CommandError::NotOfAClient);
        }
        match self.groups.join(session, group) {
            Ok(_) => Ok(()),
            Err(GroupsFull::Groups) => Err(CommandError::TableFull {
                what: "the table of groups",
                field: "limits.groups",
            }),
            Err(GroupsFull::GroupsOfSession) => Err(CommandError::TableFull {
                what: "the session's list of groups",
                field: "limits.groups_per_session",
            }),
        }
    }

    /// Takes a session out of a group. `false`: it was not in it.
    pub fn leave(&mut self, now: Instant, session: SessionKey, group: &GroupName) -> bool {
        let call = || Call::Leave {
            session,
            group: group.as_str(),
        };
        self.enter(now, call);
        self.groups.leave(session, group)
    }
}
