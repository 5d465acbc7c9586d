//! The conformance suite of a host, written once. Two sides run it at the same time, one on each node, and
//! meet between the acts; each case goes on from what the one before has left.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use hawser_plan::{
    observed::{
        ConnectionState, DiskState, GateTable, KernelResource, Looked, Met, OpenerState, ReplicaFound, Role,
        Subject, SubjectVolume, Watch,
    },
    step::{
        BackingVolume, Configuration, Connection, DrbdVolume, Gate, GateTarget, Generation, Metadata,
        Provider, SharedSecret, Step,
    },
};
use hawser_proto::ids::Incarnation;
use hawser_satellite::host::HostError;
use tokio::time::{Instant, timeout};

use crate::bench::{Arbiter, Bench, Side, mark};

/// What a case ends with: nothing, or what was not as it should be.
pub(crate) type Outcome = Result<(), String>;

/// A step gets this long, and a state this long to come about: the nodes may share one busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const SIZE: u64 = 64 << 20;
const BACKING_SIZE: u64 = SIZE + (4 << 20);
const MINOR: u32 = 1900;
const PORT: u16 = 7900;
const DAY0: u64 = 0x5EED_0000_0000_0A10;
const NAME: &str = "suite.7";
/// The gate of the suite's volume.
pub(crate) const GATE: &str = "hawser-suite.7-0";

/// Runs all cases in order and tells `report` how each ended. After a failure the rest is not reached.
pub(crate) async fn run(bench: &dyn Bench, report: &mut (dyn FnMut(&str, &Outcome) + Send)) {
    let suite = Suite::new(bench);
    let mut broken: Option<&str> = None;
    for (name, case) in CASES {
        let outcome = match broken {
            Some(earlier) => Err(format!("not reached: {earlier} failed")),
            None => match case(&suite).await {
                Ok(()) => bench.meet().await,
                failed => failed,
            },
        };
        if outcome.is_err() {
            broken.get_or_insert(name);
        }
        report(name, &outcome);
    }
}

type Case = for<'a> fn(&'a Suite<'a>) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// The cases in their order, by name.
macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), |suite| Box::pin(suite.$name()))),*] };
}

const CASES: &[(&str, Case)] = cases![
    the_node_tells_what_it_is,
    a_volume_is_made_once_and_removed_only_by_its_mark,
    what_is_not_hawsers_is_left_alone,
    a_volume_whose_making_was_interrupted_is_finished,
    two_replicas_start_equal_without_a_sync_or_one_from_the_other,
    a_changed_configuration_is_followed_only_when_it_was_adjusted,
    a_primary_opens_its_gate_and_cannot_leave_while_it_is_held,
    the_peer_reads_what_was_written,
    a_primary_that_is_turned_away_freezes_and_asks,
    a_cut_freezes_the_primary_until_the_arbiter_says_yes,
    a_healed_link_resyncs,
    a_peer_without_its_disk_that_thaws_a_frozen_primary_has_to_sync,
    a_frozen_primary_acknowledges_alone_when_it_meets_a_peer_that_has_booted,
    the_loser_returns_without_a_reboot,
    a_primary_lets_go_of_its_peer_and_goes_on_alone,
    a_replica_joins_a_primary_and_syncs,
    a_removed_replica_leaves_nothing,
];

/// One side's cases, and the moves that they are made of.
pub(crate) struct Suite<'a> {
    bench: &'a dyn Bench,
    peers: Vec<hawser_plan::step::DrbdPeer>,
}

impl<'a> Suite<'a> {
    /// The side that `bench` stands for.
    pub(crate) fn new(bench: &'a dyn Bench) -> Self {
        Suite { bench, peers: bench.peers(PORT) }
    }

    async fn the_node_tells_what_it_is(&self) -> Outcome {
        let facts = self.bench.host().facts().await;
        check(!facts.boot_id.is_empty() && !facts.uname.is_empty(), || format!("no identity: {facts:?}"))?;
        check(matches!(facts.drbd, Some((Generation::V8_4, _))), || format!("no DRBD 8.4: {facts:?}"))?;
        check(facts.helper_can_run, || "the kernel cannot run the handler".to_owned())?;
        let pool = self.bench.host().pool(&self.bench.provider()).await.map_err(words)?;
        check(pool.free_bytes > BACKING_SIZE && pool.free_bytes <= pool.capacity_bytes, || {
            format!("{pool:?}")
        })
    }

    async fn a_volume_is_made_once_and_removed_only_by_its_mark(&self) -> Outcome {
        let volume = self.backing();
        check(self.look().await.backing[&0].is_absent(), || "something has the name already".to_owned())?;
        self.twice(&Step::EnsureBackingVolume(volume.clone())).await?;
        let found = self.look().await;
        let Looked::Present(there) = &found.backing[&0] else { return Err(format!("{:?}", found.backing)) };
        check(there.active && there.mark.as_ref() == Some(&volume.mark), || format!("{there:?}"))?;
        check(there.size_bytes >= BACKING_SIZE, || format!("too small: {there:?}"))?;
        let mut other = volume.clone();
        other.mark.replica_incarnation = Incarnation::new(8);
        self.refused(&Step::EnsureBackingVolume(other.clone())).await?;
        self.refused(&Step::RemoveBackingVolume(other)).await?;
        let mut larger = volume.clone();
        larger.size_bytes *= 2;
        self.refused(&Step::EnsureBackingVolume(larger)).await?;
        check(self.look().await.backing[&0].present().is_some(), || {
            "it was removed in spite of its mark".to_owned()
        })?;
        self.twice(&Step::RemoveBackingVolume(volume)).await?;
        check(self.look().await.backing[&0].is_absent(), || "it is still there".to_owned())
    }

    async fn what_is_not_hawsers_is_left_alone(&self) -> Outcome {
        let volume = self.backing();
        self.bench.make_foreign_volume(&volume.name).await;
        self.refused(&Step::EnsureBackingVolume(volume.clone())).await?;
        self.refused(&Step::RemoveBackingVolume(volume.clone())).await?;
        let found = self.look().await;
        let outcome = match &found.backing[&0] {
            Looked::Present(there) if there.mark.is_none() => Ok(()),
            other => Err(format!("{other:?}")),
        };
        self.bench.remove_foreign_volume(&volume.name).await;
        outcome
    }

    async fn a_volume_whose_making_was_interrupted_is_finished(&self) -> Outcome {
        let volume = self.backing();
        self.execute(&Step::EnsureBackingVolume(volume.clone())).await?;
        self.execute(&Step::CreateMetadata(self.metadata(None))).await?;
        if self.bench.unfinish(&volume.name).await {
            let usable = |found: &ReplicaFound| found.backing[&0].present().map(|volume| volume.active);
            let found = self.until("half made", |found| usable(found) != Some(true)).await?;
            check(usable(&found) == Some(false), || format!("half made: {:?}", found.backing))?;
            self.twice(&Step::EnsureBackingVolume(volume.clone())).await?;
            let found = self.look().await;
            check(usable(&found) == Some(true), || format!("finished: {:?}", found.backing))?;
            let begins = self.bench.begins_with_zeros(&volume.name).await;
            check(begins, || "what lay at the front of the new volume is still there".to_owned())?;
            // Of what lay there nothing is found.
            self.execute(&Step::CreateMetadata(self.first_metadata())).await?;
        }
        self.execute(&Step::RemoveBackingVolume(volume)).await
    }

    async fn two_replicas_start_equal_without_a_sync_or_one_from_the_other(&self) -> Outcome {
        let configuration = self.configuration();
        self.twice(&Step::EnsureBackingVolume(self.backing())).await?;
        let first = self.first_metadata();
        if self.new_volumes_read_zero() {
            self.twice(&Step::CreateMetadata(first)).await?;
        } else {
            self.refused(&Step::CreateMetadata(Metadata { equal_peers: true, ..self.metadata(Some(DAY0)) }))
                .await?;
            self.twice(&Step::CreateMetadata(first)).await?;
        }
        if self.new_volumes_read_zero() || self.bench.side() == Side::A {
            self.refused(&Step::CreateMetadata(self.metadata(Some(DAY0 + 2)))).await?;
            self.refused(&Step::CreateMetadata(self.metadata(None))).await?;
        }
        self.twice(&Step::WriteConfiguration(configuration.clone())).await?;
        let [alone, bring_up] = [false, true].map(|connect| Step::BringUp {
            configuration: configuration.clone(),
            attach: true,
            connect,
        });
        self.twice(&alone).await?;
        self.until("nobody was met", |found| counted(found).is_some_and(|watch| watch.meetings == 0)).await?;
        self.twice(&bring_up).await?;
        let found = self.until("both UpToDate", |found| up_to_date(found, self.peer())).await?;
        let harmless = |found: &ReplicaFound| counted(found).is_some_and(|watch| watch.meetings == 0);
        self.until("a Secondary was met", harmless).await?;
        check(found.configuration.present() == Some(&configuration.fingerprint()), || {
            format!("fingerprint: {:?}", found.configuration)
        })?;
        let kernel = found.kernel.present().ok_or("not in the kernel")?;
        check(kernel.role == Role::Secondary, || format!("{kernel:?}"))?;
        check(kernel.volumes[&0].size_bytes == SIZE, || format!("size: {:?}", kernel.volumes))?;
        check(kernel.volumes[&0].minor == MINOR, || format!("minor: {:?}", kernel.volumes))
    }

    async fn a_changed_configuration_is_followed_only_when_it_was_adjusted(&self) -> Outcome {
        let usual = self.configuration();
        let mut changed = usual.clone();
        changed.net_options.insert("max-buffers".to_owned(), "4000".to_owned());
        for configuration in [changed, usual] {
            self.twice(&Step::WriteConfiguration(configuration.clone())).await?;
            let found = self.look().await;
            let follows = |found: &ReplicaFound| {
                found.configuration.present().map(|fingerprint| *fingerprint == configuration.fingerprint())
            };
            check(follows(&found) == Some(false), || format!("written: {:?}", found.configuration))?;
            let bring_up =
                Step::BringUp { configuration: configuration.clone(), attach: true, connect: true };
            self.twice(&bring_up).await?;
            let found = self.look().await;
            check(follows(&found) == Some(false), || format!("it ran: {:?}", found.configuration))?;
            self.twice(&Step::Adjust { configuration: configuration.clone() }).await?;
            self.twice(&Step::WriteConfiguration(configuration.clone())).await?;
            let found = self.until("both UpToDate", |found| up_to_date(found, self.peer())).await?;
            check(follows(&found) == Some(true), || format!("adjusted: {:?}", found.configuration))?;
        }
        Ok(())
    }

    async fn a_primary_opens_its_gate_and_cannot_leave_while_it_is_held(&self) -> Outcome {
        if self.bench.side() == Side::B {
            return Ok(());
        }
        self.promote_and_open().await?;
        let found = self.look().await;
        let gate = found.gates[&0].present().copied_gate()?;
        check(gate == (GateTable::Linear, false, 0), || format!("{gate:?}"))?;
        self.refused(&self.demote()).await?;
        // It would give away room that was reserved, or have two disks differ of which DRBD says that they are equal.
        let may_discard = matches!(self.bench.provider(), Provider::LvmThin { .. });
        check(may_discard || !self.bench.takes_discards(GATE).await, || {
            "the gate takes discards".to_owned()
        })?;
        let mut writer = self.bench.write(GATE, 1).await;
        check(writer.acknowledged().await, || {
            "a write on two connected replicas was not acknowledged".to_owned()
        })?;
        self.refused(&Step::CloseGate { name: GATE.to_owned() }).await?;
        let found = self.look().await;
        let openers = found.openers.present().ok_or_else(|| format!("{:?}", found.openers))?;
        check(openers.iter().any(|opener| opener.pid > 0 && opener.state == OpenerState::Living), || {
            format!("the writer is not named: {openers:?}")
        })?;
        let gate = found.gates[&0].present().copied_gate()?;
        check((gate.2, found.opens_found.get(&0)) == (1, Some(&1)), || {
            format!("the writer is counted otherwise than by the kernel: {gate:?}, {:?}", found.opens_found)
        })?;
        writer.kill().await;
        drop(writer);
        self.close_and_demote().await
    }

    async fn the_peer_reads_what_was_written(&self) -> Outcome {
        if self.bench.side() == Side::A {
            return Ok(());
        }
        self.promote_and_open().await?;
        let record = self.bench.read(GATE).await;
        check(record == 1, || format!("read record {record}"))?;
        self.close_and_demote().await
    }

    async fn a_primary_that_is_turned_away_freezes_and_asks(&self) -> Outcome {
        let connection = Connection { configuration: self.configuration(), peer: self.peer().to_owned() };
        self.bench.arbiter(Arbiter::Silent).await;
        if self.bench.side() == Side::B {
            self.promote_and_open().await?;
        }
        self.bench.meet().await?;
        if self.bench.side() == Side::A {
            self.twice(&Step::TurnAway(connection.clone())).await?;
            let found = self
                .until("StandAlone", |found| {
                    connection_state(found, self.peer()) == ConnectionState::StandAlone
                })
                .await?;
            let disk = kernel(&found).ok_or("gone")?.volumes[&0].disk;
            check(disk == DiskState::UpToDate, || format!("this side was outdated: {disk:?}"))?;
        } else {
            self.until("frozen", |found| kernel(found).is_some_and(|kernel| kernel.suspended.fencing))
                .await?;
        }
        self.bench.meet().await?;
        if self.bench.side() == Side::A {
            self.twice(&Step::Connect(connection)).await?;
            return self.in_sync().await;
        }
        self.in_sync().await?;
        self.until("thawed", |found| kernel(found).is_some_and(|kernel| !kernel.suspended.any())).await?;
        self.close_and_demote().await
    }

    async fn a_cut_freezes_the_primary_until_the_arbiter_says_yes(&self) -> Outcome {
        self.bench.arbiter(Arbiter::Silent).await;
        if self.bench.side() == Side::A {
            self.promote_and_open().await?;
        }
        self.bench.meet().await?;
        self.bench.link(false).await;
        if self.bench.side() == Side::B {
            self.until("lost", |found| connection_state(found, self.peer()) != ConnectionState::Connected)
                .await?;
            return Ok(());
        }
        let mut writer = self.bench.write(GATE, 2).await;
        self.until("frozen", |found| kernel(found).is_some_and(|kernel| kernel.suspended.fencing)).await?;
        check(!writer.acknowledged().await, || "a frozen write was acknowledged".to_owned())?;
        self.bench.arbiter(Arbiter::Yes).await;
        let found =
            self.until("thawed", |found| kernel(found).is_some_and(|kernel| !kernel.suspended.any())).await?;
        check(writer.acknowledged().await, || "the write did not end after the answer".to_owned())?;
        writer.kill().await;
        drop(writer);
        let peer = &kernel(&found).ok_or("gone")?.peers[self.peer()].volumes[&0];
        check(peer.disk == DiskState::Outdated, || format!("the peer is not outdated: {peer:?}"))?;
        self.until("out of sync", |found| {
            kernel(found).is_some_and(|kernel| kernel.peers[self.peer()].volumes[&0].out_of_sync_bytes > 0)
        })
        .await?;
        self.close_and_demote().await
    }

    async fn a_healed_link_resyncs(&self) -> Outcome {
        self.bench.link(true).await;
        self.in_sync().await?;
        self.bench.meet().await?;
        if self.bench.side() == Side::B {
            self.promote_and_open().await?;
            let record = self.bench.read(GATE).await;
            check(record == 2, || format!("read record {record}"))?;
            self.close_and_demote().await?;
        }
        Ok(())
    }

    /// Side A is Primary, nobody answers its questions, and the link is cut.
    async fn cut_off_from_a_silent_arbiter(&self) -> Outcome {
        self.bench.arbiter(Arbiter::Silent).await;
        if self.bench.side() == Side::A {
            self.promote_and_open().await?;
        }
        self.bench.meet().await?;
        self.bench.link(false).await;
        Ok(())
    }

    async fn frozen(&self) -> Outcome {
        self.until("frozen", |found| kernel(found).is_some_and(|kernel| kernel.suspended.fencing))
            .await
            .map(drop)
    }

    async fn go_down_once_the_peer_is_lost(&self) -> Outcome {
        self.until("lost", |found| connection_state(found, self.peer()) != ConnectionState::Connected)
            .await?;
        self.twice(&Step::TakeDown { drbd_name: NAME.to_owned() }).await
    }

    /// A peer that has booted and knows that it fell behind comes without its disk. It may meet a Primary that still waits for the
    /// arbiter, and goes on because somebody is there again.
    async fn a_peer_without_its_disk_that_thaws_a_frozen_primary_has_to_sync(&self) -> Outcome {
        self.cut_off_from_a_silent_arbiter().await?;
        if self.bench.side() == Side::A {
            let mut writer = self.bench.write(GATE, 3).await;
            self.frozen().await?;
            self.bench.meet().await?;
            self.bench.link(true).await;
            self.until("thawed", |found| kernel(found).is_some_and(|kernel| !kernel.suspended.any())).await?;
            check(writer.acknowledged().await, || "the write did not end".to_owned())?;
            writer.kill().await;
            drop(writer);
            self.bench.meet().await?;
            self.in_sync().await?;
            self.close_and_demote().await?;
            return self.bench.meet().await;
        }
        let configuration = self.configuration();
        self.go_down_once_the_peer_is_lost().await?;
        let bring_up = Step::BringUp { configuration: configuration.clone(), attach: false, connect: true };
        self.twice(&bring_up).await?;
        self.bench.meet().await?;
        self.bench.link(true).await;
        self.until("met", |found| connection_state(found, self.peer()) == ConnectionState::Connected).await?;
        self.bench.meet().await?;
        self.twice(&Step::AttachDisk { configuration }).await?;
        self.in_sync().await?;
        self.bench.meet().await?;
        self.promote_and_open().await?;
        let record = self.bench.read(GATE).await;
        check(record == 3, || format!("read record {record}"))?;
        self.close_and_demote().await
    }

    /// DRBD does not send again to a peer that has booted: it acknowledges what it holds without having asked anybody, and
    /// the peer, which lacks it, has to be told by its satellite's watch that there was somebody.
    async fn a_frozen_primary_acknowledges_alone_when_it_meets_a_peer_that_has_booted(&self) -> Outcome {
        self.cut_off_from_a_silent_arbiter().await?;
        if self.bench.side() == Side::A {
            let mut writer = self.bench.write(GATE, 7).await;
            self.frozen().await?;
            self.bench.meet().await?; // B has come up alone
            self.bench.link(true).await;
            check(writer.acknowledged().await, || "the write did not end".to_owned())?;
            writer.kill().await;
            drop(writer);
            self.in_sync().await?;
            self.bench.meet().await?; // B has synced
            self.close_and_demote().await?;
            return self.bench.meet().await;
        }
        let configuration = self.configuration();
        self.go_down_once_the_peer_is_lost().await?;
        self.twice(&Step::BringUp { configuration, attach: true, connect: true }).await?;
        let found = self.look().await;
        check(disk(&found) == DiskState::Consistent, || format!("alone it is {:?}", disk(&found)))?;
        let found = self.until("watched", |found| counted(found).is_some()).await?;
        let before = counted(&found).map(|watch| watch.meetings).unwrap_or_default();
        self.bench.meet().await?;
        self.bench.link(true).await;
        self.in_sync().await?;
        // The one that was broken off, and the one that syncs.
        self.until("seen", |found| counted(found).is_some_and(|watch| watch.meetings == before + 2)).await?;
        self.bench.meet().await?;
        self.bench.meet().await?; // A has stepped down
        self.promote_and_open().await?;
        let record = self.bench.read(GATE).await;
        check(record == 7, || format!("read record {record}"))?;
        self.close_and_demote().await
    }

    async fn the_loser_returns_without_a_reboot(&self) -> Outcome {
        self.cut_off_from_a_silent_arbiter().await?;
        if self.bench.side() == Side::A { self.lose().await } else { self.win().await }
    }

    /// Side B takes over, writes, and steps down after the loser is back.
    async fn win(&self) -> Outcome {
        self.until("lost", |found| connection_state(found, self.peer()) != ConnectionState::Connected)
            .await?;
        self.bench.arbiter(Arbiter::No).await;
        self.refused(&self.promote()).await?;
        self.bench.arbiter(Arbiter::Yes).await;
        self.promote_and_open().await?;
        let mut writer = self.bench.write(GATE, 4).await;
        check(writer.acknowledged().await, || "the winner's write was not acknowledged".to_owned())?;
        writer.kill().await;
        drop(writer);
        self.bench.meet().await?; // the loser is a Secondary without a disk
        self.bench.link(true).await;
        self.in_sync().await?;
        self.close_and_demote().await?;
        self.bench.meet().await?; // stepped down
        self.bench.meet().await // read by the other side
    }

    /// Side A is frozen with a writer, lets go once it is killed, and comes back from the winner's data.
    async fn lose(&self) -> Outcome {
        let mut writer = self.bench.write(GATE, 3).await;
        self.until("frozen", |found| kernel(found).is_some_and(|kernel| kernel.suspended.fencing)).await?;
        self.bench.arbiter(Arbiter::No).await;
        check(!writer.acknowledged().await, || "a frozen write was acknowledged".to_owned())?;
        let living = |found: &ReplicaFound| {
            found
                .openers
                .present()
                .is_some_and(|all| all.iter().any(|opener| opener.state == OpenerState::Living))
        };
        self.until("a living writer is named", &living).await?;
        writer.kill().await;
        let found = self.until("nobody living holds the gate", |found| !living(found)).await?;
        let gate = found.gates[&0].present().copied_gate()?;
        check((gate.2, found.opens_found.get(&0)) == (1, Some(&1)), || {
            format!(
                "a dying writer is counted otherwise than by the kernel: {gate:?}, {:?}",
                found.opens_found
            )
        })?;
        self.twice(&Step::FailGate { name: GATE.to_owned() }).await?;
        self.twice(&Step::DetachForce { drbd_name: NAME.to_owned(), minor: MINOR }).await?;
        self.twice(&Step::ResumeIo { drbd_name: NAME.to_owned(), minor: MINOR }).await?;
        let fails = |found: &ReplicaFound| {
            found.gates[&0].present().is_none_or(|gate| gate.table == GateTable::Error)
        };
        self.until("the gate fails", fails).await?;
        self.twice(&Step::CloseGate { name: GATE.to_owned() }).await?;
        check(self.look().await.gates[&0].is_absent(), || "the gate is still there".to_owned())?;
        drop(writer);
        self.twice(&self.demote()).await?;
        self.twice(&Step::TakeDown { drbd_name: NAME.to_owned() }).await?;
        let configuration = self.configuration();
        let bring_up = Step::BringUp { configuration: configuration.clone(), attach: false, connect: true };
        self.execute(&bring_up).await?;
        self.bench.meet().await?; // a Secondary without a disk
        self.bench.link(true).await;
        self.until("connected", |found| connection_state(found, self.peer()) == ConnectionState::Connected)
            .await?;
        self.twice(&Step::AttachDisk { configuration }).await?;
        self.in_sync().await?;
        self.bench.meet().await?; // the winner has stepped down
        self.promote_and_open().await?;
        let record = self.bench.read(GATE).await;
        check(record == 4, || format!("read record {record}, not the winner's"))?;
        self.close_and_demote().await?;
        self.bench.meet().await
    }

    /// Side A is told that B leaves, B is not: its replica is still there, and outdated.
    async fn a_primary_lets_go_of_its_peer_and_goes_on_alone(&self) -> Outcome {
        self.bench.arbiter(Arbiter::No).await;
        if self.bench.side() == Side::A {
            self.promote_and_open().await?;
        }
        self.bench.meet().await?; // A is Primary
        if self.bench.side() == Side::B {
            self.until("lost", |found| connection_state(found, self.peer()) != ConnectionState::Connected)
                .await?;
            self.until("outdated", |found| disk(found) == DiskState::Outdated).await?;
            self.refused(&self.promote()).await?;
            self.bench.meet().await?; // A has written alone
            // The link is as it was: nothing that A does leads to B any more.
            self.execute(&Step::TakeDown { drbd_name: NAME.to_owned() }).await?;
            return self.execute(&Step::RemoveBackingVolume(self.backing())).await;
        }
        let configuration = self.alone();
        self.twice(&Step::WriteConfiguration(configuration.clone())).await?;
        let found = self.look_beside(&[]).await;
        check(kernel(&found).is_some_and(|kernel| kernel.to_a_stranger), || format!("{found:?}"))?;
        self.twice(&Step::Adjust { configuration: configuration.clone() }).await?;
        let found = self.look_beside(&[]).await;
        check(found.configuration.present() == Some(&configuration.fingerprint()), || format!("{found:?}"))?;
        let there = kernel(&found).ok_or("gone")?;
        check(!there.to_a_stranger && !there.suspended.any(), || format!("{there:?}"))?;
        check((there.role, disk(&found)) == (Role::Primary, DiskState::UpToDate), || format!("{there:?}"))?;
        let mut writer = self.bench.write(GATE, 5).await;
        check(writer.acknowledged().await, || "a write without a peer was not acknowledged".to_owned())?;
        writer.kill().await;
        self.bench.meet().await // B may go
    }

    /// Side B is made anew and joins A, which is Primary all the while and writes.
    async fn a_replica_joins_a_primary_and_syncs(&self) -> Outcome {
        let configuration = self.configuration();
        if self.bench.side() == Side::A {
            self.twice(&Step::WriteConfiguration(configuration.clone())).await?;
            self.twice(&Step::Adjust { configuration: configuration.clone() }).await?;
            let connection = Connection { configuration, peer: self.peer().to_owned() };
            self.twice(&Step::Connect(connection)).await?;
            let found = self.look().await;
            check(kernel(&found).is_some_and(|kernel| !kernel.suspended.any()), || format!("{found:?}"))?;
            self.until("connected", |found| connected(found, self.peer())).await?;
            let mut writer = self.bench.write(GATE, 6).await;
            check(writer.acknowledged().await, || "a write beside a joiner was not acknowledged".to_owned())?;
            writer.kill().await;
            self.in_sync().await?;
            self.close_and_demote().await?;
            self.bench.meet().await?; // B reads
            return self.bench.meet().await;
        }
        self.twice(&Step::EnsureBackingVolume(self.backing())).await?;
        self.twice(&Step::CreateMetadata(self.metadata(None))).await?;
        self.twice(&Step::WriteConfiguration(configuration.clone())).await?;
        let bring_up = Step::BringUp { configuration: configuration.clone(), attach: false, connect: true };
        self.twice(&bring_up).await?;
        self.until("connected", |found| connected(found, self.peer())).await?;
        self.twice(&Step::AttachDisk { configuration }).await?;
        self.in_sync().await?;
        self.bench.meet().await?; // A has stepped down
        self.promote_and_open().await?;
        let record = self.bench.read(GATE).await;
        check(record == 6, || format!("read record {record}"))?;
        self.close_and_demote().await?;
        self.bench.meet().await
    }

    async fn a_removed_replica_leaves_nothing(&self) -> Outcome {
        self.twice(&Step::TakeDown { drbd_name: NAME.to_owned() }).await?;
        self.twice(&Step::RemoveConfiguration { drbd_name: NAME.to_owned() }).await?;
        self.twice(&Step::RemoveBackingVolume(self.backing())).await?;
        let nothing = |found: &ReplicaFound| {
            found.backing[&0].is_absent()
                && found.configuration.is_absent()
                && found.kernel.is_absent()
                && found.gates[&0].is_absent()
                && found.openers.present().is_some_and(Vec::is_empty)
        };
        self.until("nothing is left", nothing).await.map(drop)
    }

    /// Makes this side's replica, ready to start equal with the other's.
    pub(crate) async fn create(&self) -> Outcome {
        self.execute(&Step::EnsureBackingVolume(self.backing())).await?;
        self.execute(&Step::CreateMetadata(self.first_metadata())).await?;
        self.start_again().await
    }

    /// What a node does for a replica that is there after a boot.
    pub(crate) async fn start_again(&self) -> Outcome {
        let configuration = self.configuration();
        self.execute(&Step::EnsureBackingVolume(self.backing())).await?;
        self.execute(&Step::WriteConfiguration(configuration.clone())).await?;
        self.execute(&Step::BringUp { configuration, attach: true, connect: true }).await
    }

    /// Waits until both replicas are equal.
    pub(crate) async fn in_sync(&self) -> Outcome {
        self.until("in sync", |found| up_to_date(found, self.peer())).await.map(drop)
    }

    fn peer(&self) -> &str {
        &self.peers[if self.bench.side() == Side::A { 1 } else { 0 }].node
    }

    fn backing(&self) -> BackingVolume {
        BackingVolume {
            provider: self.bench.provider(),
            name: "suite.7-0".to_owned(),
            size_bytes: BACKING_SIZE,
            mark: mark(7),
        }
    }

    fn new_volumes_read_zero(&self) -> bool {
        !matches!(self.bench.provider(), Provider::Lvm { .. })
    }

    /// That of a replica which is made together with the other one: equal to it, or else B syncs from A.
    fn first_metadata(&self) -> Metadata {
        if self.new_volumes_read_zero() {
            return Metadata { equal_peers: true, ..self.metadata(Some(DAY0)) };
        }
        self.metadata((self.bench.side() == Side::A).then_some(DAY0))
    }

    fn metadata(&self, day0: Option<u64>) -> Metadata {
        Metadata {
            drbd_name: NAME.to_owned(),
            volume: 0,
            minor: MINOR,
            backing: self.backing(),
            size_bytes: SIZE,
            generation: Generation::V8_4,
            maximum_peers: 1,
            day0,
            equal_peers: false,
        }
    }

    fn configuration(&self) -> Configuration {
        let own = if self.bench.side() == Side::A { 0 } else { 1 };
        Configuration {
            drbd_name: NAME.to_owned(),
            node: self.peers[own].node.clone(),
            generation: Generation::V8_4,
            shared_secret: SharedSecret("of the suite".to_owned()),
            resource_options: BTreeMap::new(),
            net_options: BTreeMap::new(),
            disk_options: BTreeMap::new(),
            ask_arbiter: true,
            volumes: vec![DrbdVolume {
                number: 0,
                minor: MINOR,
                size_bytes: SIZE,
                backing: Some(self.backing()),
            }],
            peers: self.peers.clone(),
        }
    }

    /// The configuration without the other side.
    fn alone(&self) -> Configuration {
        let usual = self.configuration();
        let own = usual.peers.iter().filter(|peer| peer.node == usual.node).cloned().collect();
        Configuration { ask_arbiter: false, peers: own, ..usual }
    }

    fn promote(&self) -> Step {
        Step::Promote { drbd_name: NAME.to_owned(), minors: vec![MINOR] }
    }

    fn demote(&self) -> Step {
        Step::Demote { drbd_name: NAME.to_owned(), minors: vec![MINOR] }
    }

    /// Becomes Primary and opens the gate.
    pub(crate) async fn promote_and_open(&self) -> Outcome {
        self.twice(&self.promote()).await?;
        let gate = Gate { name: GATE.to_owned(), target: GateTarget::Drbd { minor: MINOR } };
        self.twice(&Step::OpenGate(gate)).await
    }

    async fn close_and_demote(&self) -> Outcome {
        // A consumer that was killed is gone as soon as its last write has ended.
        self.until("nobody holds the gate", |found| {
            found.gates[&0].present().is_none_or(|gate| gate.open_count == 0)
        })
        .await?;
        self.twice(&Step::CloseGate { name: GATE.to_owned() }).await?;
        self.twice(&self.demote()).await
    }

    /// What is there of the suite's replica.
    pub(crate) async fn look(&self) -> ReplicaFound {
        let other: Vec<_> = self.peers.iter().filter(|peer| peer.node == self.peer()).cloned().collect();
        self.look_beside(&other).await
    }

    /// What is there, as a replica beside these others.
    async fn look_beside(&self, peers: &[hawser_plan::step::DrbdPeer]) -> ReplicaFound {
        let subject = Subject {
            resource: "suite".to_owned(),
            replica_incarnation: Incarnation::new(7),
            drbd_name: Some(NAME.to_owned()),
            provider: Some(self.bench.provider()),
            volumes: vec![SubjectVolume {
                number: 0,
                minor: MINOR,
                backing_name: self.backing().name,
                gate_name: GATE.to_owned(),
            }],
            peers: peers.to_vec(),
            openers: true,
        };
        self.bench.host().look(std::slice::from_ref(&subject)).await.remove(0)
    }

    async fn execute(&self, step: &Step) -> Outcome {
        self.bench.host().execute(step, PATIENCE).await.map_err(|error| format!("{}: {error}", step.verb()))
    }

    /// A step is an "ensure": the second time changes nothing and succeeds too.
    async fn twice(&self, step: &Step) -> Outcome {
        self.execute(step).await?;
        self.execute(step).await.map_err(|error| format!("the second time, {error}"))
    }

    async fn refused(&self, step: &Step) -> Outcome {
        match self.bench.host().execute(step, PATIENCE).await {
            Ok(()) => Err(format!("{} was not refused", step.verb())),
            Err(HostError::Refused { .. } | HostError::Command(_)) => Ok(()),
            Err(other) => Err(format!("{}: {other}", step.verb())),
        }
    }

    /// Looks again with every change that the host reports, until what is found is as wanted.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&ReplicaFound) -> bool,
    ) -> Result<ReplicaFound, String> {
        let mut changes = self.bench.host().changes();
        let end = Instant::now() + PATIENCE;
        loop {
            changes.mark_unchanged();
            let found = self.look().await;
            if wanted(&found) {
                return Ok(found);
            }
            if Instant::now() > end {
                return Err(format!("waited in vain for: {what}; found {found:?}"));
            }
            // Not everything wakes: the progress of a resync and the death of a process are seen by looking.
            let _ = timeout(Duration::from_millis(300), changes.changed()).await;
        }
    }
}

fn kernel(found: &ReplicaFound) -> Option<&KernelResource> {
    found.kernel.present()
}

/// What the watch has counted of the suite's connection, if it has reached this look.
fn counted(found: &ReplicaFound) -> Option<Watch> {
    match found.met {
        Met::Watched(watch) => Some(watch),
        Met::Unknown => None,
    }
}

/// Whether the connection to a peer stands.
pub(crate) fn connected(found: &ReplicaFound, peer: &str) -> bool {
    connection_state(found, peer) == ConnectionState::Connected
}

fn connection_state(found: &ReplicaFound, peer: &str) -> ConnectionState {
    kernel(found)
        .and_then(|kernel| kernel.peers.get(peer))
        .map_or(ConnectionState::StandAlone, |found| found.connection)
}

fn up_to_date(found: &ReplicaFound, peer: &str) -> bool {
    kernel(found).is_some_and(|kernel| {
        let Some(there) = kernel.peers.get(peer) else { return false };
        kernel.volumes.get(&0).is_some_and(|volume| volume.disk == DiskState::UpToDate)
            && there.connection == ConnectionState::Connected
            && there.volumes.get(&0).is_some_and(|volume| {
                volume.disk == DiskState::UpToDate
                    && volume.replication == "Established"
                    && volume.out_of_sync_bytes == 0
            })
    })
}

fn disk(found: &ReplicaFound) -> DiskState {
    kernel(found).and_then(|kernel| kernel.volumes.get(&0)).map_or(DiskState::Diskless, |volume| volume.disk)
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn words(error: HostError) -> String {
    error.to_string()
}

/// Shorthand for the parts of a gate that the cases compare.
trait GateParts {
    fn copied_gate(self) -> Result<(GateTable, bool, u32), String>;
}

impl GateParts for Option<&hawser_plan::observed::GateFound> {
    fn copied_gate(self) -> Result<(GateTable, bool, u32), String> {
        self.map(|gate| (gate.table, gate.suspended, gate.open_count)).ok_or_else(|| "no gate".to_owned())
    }
}
