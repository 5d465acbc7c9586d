//! Brings a fault about, and mends it.

use std::time::Duration;

use super::{Fault, FaultKind};
use crate::{cluster::Cluster, host::CommandFaults};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl Fault {
    /// Lets it begin. What only may come of it is counted when it does.
    pub(crate) fn begin(&self, cluster: &mut Cluster) {
        self.hosts(cluster).iter().for_each(|host| cluster.note_hurt(host));
        if let [kind] = self.kinds()[..]
            && self.is_certain()
        {
            cluster.fired.note(kind);
        }
        match self {
            Self::KillController(host) => cluster.kill_controller(host),
            Self::KillSatellite(host) => cluster.kill_satellite(host),
            Self::CutPower(host) => cluster.cut_power(host),
            Self::Isolate(_) | Self::Part(..) | Self::PartOneWay(..) => self.cut(cluster),
            Self::SlowDown(host, most) => slow_down(cluster, host, *most),
            Self::Lose(percent) => cluster.network.lose(*percent),
            Self::Disorder(most) => cluster.network.disorder(*most),
            Self::BreakCommands(host, faults) => cluster.hosts[host].commands.set(*faults),
            Self::Stall(host) => cluster.stall(host, true),
            Self::FillPool(host) => cluster.fill_pool(host, true),
            Self::ShiftClock(host, days) => cluster.shift_clock(host, days * DAY_MS),
            Self::SendLateOrder(host) => {
                if cluster.send_late_order(host) {
                    cluster.fired.note(FaultKind::LateOrder);
                }
            }
            Self::LoseControllerDisk(host) => cluster.lose_controller_disk(host),
        }
    }

    /// Ends it, while others go on.
    pub(crate) fn end<'a>(&self, cluster: &mut Cluster, still: impl Iterator<Item = &'a Self>) {
        cluster.trace.add("fault", format_args!("{self:?} is over"));
        self.hosts(cluster).iter().for_each(|host| cluster.note_hurt(host));
        match self {
            Self::KillController(host) | Self::KillSatellite(host) => cluster.restart(host),
            Self::CutPower(host) => cluster.restore_power(host),
            Self::Isolate(_) | Self::Part(..) | Self::PartOneWay(..) => {
                let names = cluster.names();
                for one in &names {
                    for other in names.iter().filter(|other| *other > one) {
                        part(cluster, one, other, false);
                    }
                }
                still.for_each(|fault| fault.cut(cluster));
            }
            Self::SlowDown(host, _) => slow_down(cluster, host, Duration::ZERO),
            Self::Lose(_) => cluster.network.lose(0),
            Self::Disorder(_) => cluster.network.disorder(Duration::ZERO),
            Self::BreakCommands(host, _) => cluster.hosts[host].commands.set(CommandFaults::default()),
            Self::Stall(host) => cluster.stall(host, false),
            Self::FillPool(host) => cluster.fill_pool(host, false),
            Self::ShiftClock(host, _) => cluster.shift_clock(host, 0),
            Self::SendLateOrder(_) | Self::LoseControllerDisk(_) => {}
        }
    }

    /// Whether it comes about by beginning: commands have to be run, and a controller have a disk that may be lost.
    fn is_certain(&self) -> bool {
        !matches!(
            self,
            Self::BreakCommands(..)
                | Self::Disorder(_)
                | Self::SendLateOrder(_)
                | Self::LoseControllerDisk(_)
        )
    }

    /// Cuts the links that it is about; none where it is about something else.
    fn cut(&self, cluster: &mut Cluster) {
        match self {
            Self::Isolate(host) => {
                for other in cluster.names().iter().filter(|other| *other != host) {
                    part(cluster, host, other, true);
                }
            }
            Self::Part(one, other) => part(cluster, one, other, true),
            Self::PartOneWay(from, to) => {
                cluster.network.cut(from, to, true);
                cluster.link(from, to, false);
            }
            _ => {}
        }
    }
}

fn part(cluster: &mut Cluster, one: &str, other: &str, cut: bool) {
    cluster.network.cut(one, other, cut);
    cluster.network.cut(other, one, cut);
    cluster.link(one, other, !cut);
}

fn slow_down(cluster: &mut Cluster, host: &str, most: Duration) {
    for other in cluster.names().iter().filter(|other| *other != host) {
        cluster.network.slow_down(host, other, most);
        cluster.network.slow_down(other, host, most);
    }
}
