//! A failure cut down to what it takes: steps, settings and nodes.

use std::ops::Range;

use crate::Certificates;

use super::failure::{Failure, try_plan};
use super::fields::FIELDS;
use super::plan::{Plan, Step};

/// With more clients than this, runs count for more, and less of them is tried before anything else.
const MANY: usize = 50;

/// A failure that is being cut down, and how many runs that may still take.
struct Shrinking<'a> {
    best: Box<Failure>,
    certificates: &'a Certificates,
    left: usize,
}

impl Failure {
    /// The same with as little as it takes, in at most so many runs: as few steps, as few nodes, and
    /// as few settings that are not the defaults.
    pub fn shrink(self: Box<Self>, certificates: &Certificates, runs: usize) -> Box<Self> {
        let mut shrinking = Shrinking {
            best: self,
            certificates,
            left: runs,
        };
        if shrinking.best.plan.clients > MANY {
            // Each run is dear as long as they are there.
            shrinking.nodes();
        }
        // Most of a run's length, and of little use but to what is about links that rest.
        shrinking.conversations();
        // A node may turn out to be of no use when a setting has gone.
        loop {
            let before = size(&shrinking.best.plan);
            shrinking.steps();
            shrinking.nodes();
            shrinking.settings();
            if shrinking.left == 0 || size(&shrinking.best.plan) == before {
                return shrinking.best;
            }
        }
    }
}

impl Shrinking<'_> {
    /// Takes a plan if it fails in the same way.
    fn accept(&mut self, plan: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left = self.left.saturating_sub(1 + plan.clients / MANY);
        let failure = try_plan(&plan, self.certificates).err();
        let Some(failure) = failure.filter(|failure| failure.sign == self.best.sign) else {
            return false;
        };
        self.best = failure;
        true
    }

    fn conversations(&mut self) {
        let plan = Plan {
            converses: false,
            ..self.best.plan.clone()
        };
        self.accept(plan);
    }

    /// Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
    /// 2002).
    fn steps(&mut self) {
        let mut parts = 2;
        while self.best.plan.steps.len() > 1 && self.left > 0 {
            let length = self.best.plan.steps.len();
            let size = length.div_ceil(parts);
            let found = (0..length).step_by(size).any(|start| {
                let plan = without(&self.best.plan, start..(start + size).min(length));
                self.accept(plan)
            });
            if found {
                parts = parts.saturating_sub(1).max(2);
            } else if size == 1 {
                break;
            } else {
                parts = (parts * 2).min(length);
            }
        }
    }

    /// Without all that nothing happens to, or else without half of them, a quarter, and so on, down to
    /// one after the other.
    fn nodes(&mut self) {
        let plan = &self.best.plan;
        let idle = (0..nodes(plan)).rev();
        let idle = idle.filter(|node| !plan.mentions(*node));
        let fewer = idle.fold(plan.clone(), Plan::without_node);
        self.accept(fewer);
        let mut size = nodes(&self.best.plan).div_ceil(2);
        loop {
            let mut end = nodes(&self.best.plan);
            while end > 0 {
                let start = end.saturating_sub(size);
                let nodes_before = nodes(&self.best.plan);
                let part = (start..end).rev();
                let plan = part.fold(self.best.plan.clone(), Plan::without_node);
                if nodes(&plan) < nodes_before {
                    self.accept(plan);
                }
                end = start;
            }
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
    }

    fn settings(&mut self) {
        let mut plan = self.best.plan.clone();
        plan.server = Default::default();
        plan.client = Default::default();
        plan.asks = false;
        if self.accept(plan) {
            return;
        }
        for field in FIELDS {
            let sides: [fn(&mut Plan) -> &mut _; 2] = [|p| &mut p.server, |p| &mut p.client];
            for side in sides {
                let mut plan = self.best.plan.clone();
                let config = side(&mut plan);
                if !field.is_default(config) {
                    field.reset(config);
                    self.accept(plan);
                }
            }
        }
        if self.best.plan.asks {
            let mut plan = self.best.plan.clone();
            plan.asks = false;
            self.accept(plan);
        }
    }
}

fn nodes(plan: &Plan) -> usize {
    plan.servers + plan.clients
}

/// How many steps, nodes, and settings that are not the defaults there are.
fn size(plan: &Plan) -> [usize; 3] {
    let configs = [&plan.server, &plan.client];
    let changed = configs.map(|config| FIELDS.iter().filter(|f| !f.is_default(config)).count());
    let settings = changed[0] + changed[1] + usize::from(plan.asks);
    [plan.steps.len(), nodes(plan), settings]
}

fn without(plan: &Plan, steps: Range<usize>) -> Plan {
    let kept = |(at, step): (usize, &Step)| (!steps.contains(&at)).then(|| step.clone());
    let steps = plan.steps.iter().enumerate().filter_map(kept).collect();
    Plan {
        steps,
        ..plan.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use trunkline_core::trace::Reader;
    use trunkline_core::{Bug, plant};

    use super::super::{commit, try_seed};
    use super::*;

    /// It takes a session that is lost with a message under way, and no more than that.
    #[test]
    fn a_failure_is_cut_down_to_few_steps_nodes_and_settings() {
        let certificates = Certificates::new().unwrap();
        plant(Some(Bug::DenyDelivery));
        let found = (0..200).find_map(|seed| {
            let failure = try_seed(seed, &certificates).err()?;
            (failure.plan.clients > 3).then_some(failure)
        });
        let found = found.expect("the bug shows soon");
        let before = found.plan.clone();
        let smallest = found.shrink(&certificates, 150);
        let folder = tempfile::tempdir().unwrap();
        let written = smallest.write_traces(&certificates, folder.path());
        plant(None);
        // Enough to see it again, by hand and record by record.
        let said = smallest.to_string();
        for part in [
            format!("seed {}, commit {}", before.seed, commit()),
            format!("--seed {}", before.seed),
            "configuration: ".to_owned(),
        ] {
            assert!(said.contains(&part), "{said}");
        }
        let written = written.unwrap();
        let plan = fs::read_to_string(written.join("plan.txt")).unwrap();
        assert!(plan.contains(&said) && plan.contains("Connect"), "{plan}");
        for level in ["wire", "link"] {
            let trace = fs::File::open(written.join(format!("node-0-0-{level}.tlt"))).unwrap();
            let mut reader = Reader::new(trace).unwrap();
            let mut records = 0;
            while reader.next_record().unwrap().is_some() {
                records += 1;
            }
            assert!(records > 20, "{records} at {level} level");
        }
        let [steps, nodes, settings] = size(&smallest.plan);
        let [all_steps, all_nodes, all_settings] = size(&before);
        assert!(steps < all_steps / 2);
        assert!(nodes < all_nodes);
        assert!(settings < all_settings);
    }

    /// Here nodes turn out to be of no use once settings are the defaults.
    #[test]
    fn what_was_cut_down_cannot_be_cut_down_further() {
        let certificates = Certificates::new().unwrap();
        plant(Some(Bug::ForgetUndelivered));
        let found = (0..200).find_map(|seed| try_seed(seed, &certificates).err());
        let found = found.expect("the bug shows soon");
        let once = found.shrink(&certificates, 300);
        let twice = once.clone().shrink(&certificates, 300);
        plant(None);
        assert_eq!(size(&once.plan), size(&twice.plan));
    }

    /// It takes one client whose server crashes.
    #[test]
    fn of_a_storm_a_few_of_a_thousand_clients_are_left() {
        let certificates = Certificates::new().unwrap();
        plant(Some(Bug::ForgetRedialTimer));
        let found = try_seed(999, &certificates).unwrap_err();
        let clients = found.plan.clients;
        let smallest = found.shrink(&certificates, 100).plan;
        plant(None);
        assert_eq!((clients, smallest.clients), (1_000, 1), "{smallest}");
        assert!(smallest.steps.len() <= 3, "{smallest}");
    }
}
