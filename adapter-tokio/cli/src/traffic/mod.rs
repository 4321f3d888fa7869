//! Sending many messages over one connection that breaks and comes back, and keeping account of
//! what becomes of each.

mod hold;
mod losses;
mod outcomes;
mod run;
mod telling;
mod texts;

pub(crate) use outcomes::{Summary, Wanted};
pub(crate) use run::{Finished, Kind, Plan, Run, any_run};
pub(crate) use telling::Told;
pub(crate) use texts::Texts;
