//! Who works with a simulated cluster, on the administrators' machine.

use std::sync::{Arc, atomic::AtomicBool};

use hawser_proto::v1;

use super::Cluster;
use crate::workload::{Nonsense, Registrar, Staff, Worker};

/// People who ask about the same groups and about the workers' resources.
const REGISTRARS: u64 = 3;

impl Cluster {
    /// Lets everybody begin to work.
    pub(super) fn employ(&mut self, names: &[String], reads: v1::Consistency, leisure: u64) {
        for number in 0..self.size.workers {
            let staff = self.staff(&format!("worker{number}"), names, leisure);
            let worker = Worker::new(format!("r{number}"), self.world.clone(), staff);
            self.outside.spawn(worker.work());
        }
        let resources = self.size.workers as u64;
        for number in 0..REGISTRARS {
            let staff = self.staff(&format!("registrar{number}"), names, leisure);
            self.outside.spawn(Registrar { number, staff, resources, reads }.work());
        }
        let staff = self.staff("fool", names, leisure);
        self.outside.spawn(Nonsense { staff }.work());
    }

    fn staff(&mut self, name: &str, controllers: &[String], leisure: u64) -> Staff {
        let finished = Arc::new(AtomicBool::new(false));
        self.finished.push((name.to_owned(), Arc::clone(&finished)));
        Staff {
            administrator: self.administrator(name, controllers),
            history: self.history.clone(),
            trace: self.trace.clone(),
            violations: self.violations.clone(),
            calm: Arc::clone(&self.calm),
            finished,
            leisure,
        }
    }
}
