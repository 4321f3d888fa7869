//! Which sessions a broadcast to a group goes to.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{GroupName, SessionKey};

/// Why a session cannot join a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupsFull {
    /// As many groups exist as may: [`crate::config::Limits::groups`].
    Groups,
    /// The session is in as many groups as it may: [`crate::config::Limits::groups_per_session`].
    GroupsOfSession,
}

/// The groups of a node. A group exists while it has members.
#[derive(Debug)]
pub(crate) struct Groups {
    max_groups: usize,
    max_groups_of_session: usize,
    members: BTreeMap<GroupName, BTreeSet<SessionKey>>,
    /// The same the other way round, so that a session leaves in time proportional to its groups.
    groups: BTreeMap<SessionKey, BTreeSet<GroupName>>,
}

impl Groups {
    pub(crate) const fn new(max_groups: usize, max_groups_of_session: usize) -> Self {
        Self {
            max_groups,
            max_groups_of_session,
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// Adds a session to a group; `Ok(false)` if it is a member already, whatever is full.
    pub(crate) fn join(
        &mut self,
        session: SessionKey,
        group: &GroupName,
    ) -> Result<bool, GroupsFull> {
        if self.is_member(session, group) {
            return Ok(false);
        }
        if self.groups_of(session).len() >= self.max_groups_of_session {
            return Err(GroupsFull::GroupsOfSession);
        }
        // One copy of a group's name serves all its members.
        let known = self
            .members
            .get_key_value(group)
            .map(|(name, _)| name.clone());
        if known.is_none() && self.members.len() >= self.max_groups {
            return Err(GroupsFull::Groups);
        }
        let name = known.unwrap_or_else(|| group.clone());
        self.members
            .entry(name.clone())
            .or_default()
            .insert(session);
        self.groups.entry(session).or_default().insert(name);
        Ok(true)
    }

    /// Takes a session out of a group; `false` if it is not a member.
    pub(crate) fn leave(&mut self, session: SessionKey, group: &GroupName) -> bool {
        let Some(groups) = self.groups.get_mut(&session) else {
            return false;
        };
        let was_member = groups.remove(group);
        if groups.is_empty() {
            self.groups.remove(&session);
        }
        if was_member {
            self.forget_member(session, group);
        }
        was_member
    }

    /// Takes a session out of all its groups.
    pub(crate) fn leave_all(&mut self, session: SessionKey) {
        for group in self.groups.remove(&session).unwrap_or_default() {
            self.forget_member(session, &group);
        }
    }

    /// The members of a group, in the order of their keys.
    pub(crate) fn members(&self, group: &GroupName) -> impl ExactSizeIterator<Item = SessionKey> {
        const NOBODY: &BTreeSet<SessionKey> = &BTreeSet::new();
        self.members.get(group).unwrap_or(NOBODY).iter().copied()
    }

    /// The groups of a session, in the order of their names.
    pub(crate) fn groups_of(
        &self,
        session: SessionKey,
    ) -> impl ExactSizeIterator<Item = &GroupName> {
        const NOWHERE: &BTreeSet<GroupName> = &BTreeSet::new();
        self.groups.get(&session).unwrap_or(NOWHERE).iter()
    }

    pub(crate) fn is_member(&self, session: SessionKey, group: &GroupName) -> bool {
        self.groups
            .get(&session)
            .is_some_and(|groups| groups.contains(group))
    }

    /// How many groups exist.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn forget_member(&mut self, session: SessionKey, group: &GroupName) {
        if let Some(members) = self.members.get_mut(group) {
            members.remove(&session);
            if members.is_empty() {
                self.members.remove(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::Key;

    fn session(slot: u32) -> SessionKey {
        SessionKey(Key {
            slot,
            generation: 0,
        })
    }

    fn group(name: &str) -> GroupName {
        GroupName::new(name).unwrap()
    }

    #[test]
    fn members_come_in_the_order_of_their_keys() {
        let mut groups = Groups::new(10, 10);
        for slot in [3, 1, 2] {
            assert_eq!(groups.join(session(slot), &group("a")), Ok(true));
        }
        assert_eq!(groups.join(session(2), &group("a")), Ok(false));
        assert!(groups.members(&group("a")).eq([1, 2, 3].map(session)));
        assert_eq!(groups.members(&group("b")).len(), 0);
    }

    #[test]
    fn a_limit_refuses_what_is_new_and_nothing_else() {
        let mut groups = Groups::new(2, 2);
        groups.join(session(1), &group("a")).unwrap();
        groups.join(session(2), &group("b")).unwrap();
        assert_eq!(
            groups.join(session(1), &group("c")),
            Err(GroupsFull::Groups)
        );
        assert_eq!(groups.join(session(1), &group("b")), Ok(true));
        assert_eq!(
            groups.join(session(1), &group("c")),
            Err(GroupsFull::GroupsOfSession)
        );
        assert_eq!(groups.join(session(1), &group("a")), Ok(false));
        assert_eq!(groups.len(), 2);
        assert!(!groups.is_member(session(1), &group("c")));
        assert_eq!(groups.groups_of(session(1)).len(), 2);
    }

    #[test]
    fn an_empty_group_makes_room_for_another() {
        let mut groups = Groups::new(1, 1);
        groups.join(session(1), &group("a")).unwrap();
        assert!(groups.leave(session(1), &group("a")));
        assert!(!groups.leave(session(1), &group("a")));
        assert!(groups.is_empty() && groups.groups.is_empty());
        assert_eq!(groups.join(session(2), &group("b")), Ok(true));
    }

    #[test]
    fn a_session_that_leaves_all_its_groups_stays_in_none() {
        let mut groups = Groups::new(10, 10);
        for name in ["a", "b", "c"] {
            groups.join(session(1), &group(name)).unwrap();
        }
        groups.join(session(2), &group("b")).unwrap();
        groups.leave_all(session(1));
        groups.leave_all(session(7));
        assert_eq!(groups.groups_of(session(1)).len(), 0);
        assert_eq!(groups.len(), 1);
        assert!(groups.members(&group("b")).eq([session(2)]));
    }

    proptest! {
        #[test]
        fn both_directions_always_agree(
            steps in prop::collection::vec((0..6_u32, 0..6_usize, 0..8_u8), 0..200)
        ) {
            let names = ["a", "b", "c", "d", "e", "f"].map(group);
            let mut groups = Groups::new(4, 3);
            let mut model = BTreeSet::new();
            for (slot, name, what) in steps {
                let key = session(slot);
                let pair = (slot, name);
                match what {
                    0 => {
                        groups.leave_all(key);
                        model.retain(|(other, _)| *other != slot);
                    }
                    1 | 2 => prop_assert_eq!(groups.leave(key, &names[name]), model.remove(&pair)),
                    _ => {
                        let alive: BTreeSet<_> = model.iter().map(|(_, name)| *name).collect();
                        let expected = if model.contains(&pair) {
                            Ok(false)
                        } else if model.iter().filter(|(other, _)| *other == slot).count() == 3 {
                            Err(GroupsFull::GroupsOfSession)
                        } else if alive.len() == 4 && !alive.contains(&name) {
                            Err(GroupsFull::Groups)
                        } else {
                            model.insert(pair);
                            Ok(true)
                        };
                        prop_assert_eq!(groups.join(key, &names[name]), expected);
                    }
                }
                let alive: BTreeSet<_> = model.iter().map(|(_, name)| *name).collect();
                prop_assert_eq!(groups.len(), alive.len());
                for (index, name) in names.iter().enumerate() {
                    let members = model.iter().filter(|(_, other)| *other == index);
                    prop_assert!(groups.members(name).eq(members.map(|(slot, _)| session(*slot))));
                }
                for slot in 0..6 {
                    let of = model.iter().filter(|(other, _)| *other == slot);
                    prop_assert!(groups.groups_of(session(slot)).eq(of.map(|(_, name)| &names[*name])));
                }
            }
        }
    }
}
