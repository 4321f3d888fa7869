//! Whole runs from a seed: a random configuration, random nodes, random operations, and a random
//! subset of all faults. Then the faults heal, and everything has to be well again.
//!
//! A seed makes a [`Plan`]: an explicit list of what happens and when. [`run`] runs it in a
//! [`crate::World`] under the eyes of an [`crate::oracle::Oracle`]. That not every fault is in every
//! run is what makes rare ones meet (Groce et al., "Swarm testing", 2012). A [`Failure`] is cut
//! down to the steps, nodes and settings that it takes, and the nodes' traces are written.

mod batch;
mod caught;
mod commands;
mod conversations;
mod desk;
mod draw;
mod examination;
mod failure;
mod faults;
mod fields;
mod harm;
mod plan;
mod pressure;
mod run;
mod seen;
mod settings;
mod shrink;
mod tally;

pub use batch::{Batch, Summary, first_of};
pub use failure::{Failure, commit, try_plan, try_seed, try_twice};
pub use faults::Faults;
pub use plan::{Action, Kind, Plan, Step};
pub use pressure::Pressure;
#[cfg(feature = "fuzz")]
pub(crate) use run::run_in;
pub use run::{Ran, Recorded, run, run_recorded};
#[cfg(feature = "fuzz")]
pub(crate) use settings::draw as draw_settings;
