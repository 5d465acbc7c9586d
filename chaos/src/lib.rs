//! A whole cluster in one process, under faults that one seed decides: the real controllers and satellites over a
//! simulated network, simulated disks and simulated kernels, on a clock that stands still while they think.
//!
//! * [`simulation`]: one run. [`campaign`]: many. [`soak`]: a long one. [`cluster`]: its hosts and processes. [`faults`]:
//!   what can happen to them. [`loaded_satellite`]: one satellite with many replicas.
//! * [`network`], [`disk`], [`host`]: what is simulated. [`clock`] and [`trace`]: what makes a run the same each time.
//! * `workload`: what people do meanwhile. `invariants`: what must hold all the time.

pub mod campaign;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod faults;
pub mod fired;
pub mod host;
pub mod loaded_satellite;
pub mod network;
pub mod pace;
pub mod sample;
pub mod simulation;
pub mod soak;
pub mod trace;
pub mod violations;

mod api;
mod history;
mod invariants;
#[cfg(test)]
mod network_tests;
mod process;
mod stream;
mod transport;
mod workload;

pub use stream::{ServerStream, SimulatedStream};
