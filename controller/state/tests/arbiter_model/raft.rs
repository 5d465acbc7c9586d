//! What Raft decides, by the real `apply` over a real state.
//!
//! The model keeps only what arbitration depends on. For each command that is put into a state of its
//! own, the real function is asked, and what it made of it is taken back out. Answers are remembered:
//! apply is pure.

use std::{collections::HashMap, sync::Mutex};

use hawser_proto::v1::{
    Address, Arbitration, Attachment, AttachmentLifecycle, ClaimTakeOver, Command, ConfirmDetached,
    ConfirmResourceReady, CreateAttachment, CreateNode, CreatePool, CreateResource, DeleteAttachment,
    DrbdGeneration, InitializeCluster, LvmThinProvider, Member, NodeFacts, Outcome, Outdate, OutdatedReplica,
    PlacedReplica, RecordNodeFacts, RecordPoolCapacity, SnapshotRecord, Synced, TakeOver, TakeOverClaim,
    WithdrawClaim, command, create_pool, outcome, snapshot_record::Record,
};
use hawser_state::{State, apply};

/// One of the two nodes.
pub type NodeId = usize;

/// A log index, relative to the others that still matter; 0 is none.
pub type Index = u8;

const NAMES: [&str; 2] = ["a", "b"];
const RESOURCE: &str = "web";

/// Log indices up to this one made the cluster and the resource.
const SET_UP_UNTIL: u64 = 100;

/// What arbitration depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Raft {
    pub owner: Option<NodeId>,
    pub generation: u8,
    /// Number of the Outdate that stands for each node; 0 if none does.
    pub outdated: [Index; 2],
    /// Who is about to take over, and the number of that claim.
    pub claim: Option<(NodeId, Index)>,
    pub attachments: [Option<Granted>; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Granted {
    pub generation: u8,
    pub lifecycle: Lifecycle,
    /// When its lifecycle changed last.
    pub revision: Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    Granted,
    Detaching,
    Revoked,
}

/// A command as the model names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proposal {
    Attach {
        node: NodeId,
    },
    Detach {
        node: NodeId,
    },
    ConfirmDetached {
        node: NodeId,
        generation: u8,
        revision: Index,
    },
    /// The owner asks to go on without its peer.
    OutdatePeer {
        owner: NodeId,
        generation: u8,
    },
    /// A copy falls behind although no link broke.
    OutdateCopy {
        node: NodeId,
    },
    Claim {
        node: NodeId,
        from_generation: u8,
    },
    /// Nobody asks for the take-over any more.
    Withdraw {
        number: Index,
    },
    TakeOver {
        node: NodeId,
        from_generation: u8,
        claim: Index,
    },
    Synced {
        node: NodeId,
        number: Index,
    },
}

type Answer = (Raft, bool);

/// The state machine, asked one command at a time.
pub struct StateMachine {
    base: Vec<SnapshotRecord>,
    incarnation: u64,
    answers: Mutex<HashMap<(Raft, Index, Proposal), Answer>>,
}

impl StateMachine {
    pub fn new() -> Self {
        let state = set_up();
        let incarnation = state.resource(RESOURCE).unwrap().incarnation;
        Self { base: state.records().collect(), incarnation, answers: Mutex::default() }
    }

    /// What `raft` becomes by a proposal that is committed at `index`, and whether it was applied.
    pub fn commit(&self, raft: &Raft, index: Index, proposal: Proposal) -> Answer {
        let key = (raft.clone(), index, proposal);
        if let Some(answer) = self.answers.lock().unwrap().get(&key) {
            return answer.clone();
        }
        let mut state = self.restore(raft);
        let effect = apply(&mut state, absolute(index), 1, &command(self.command(proposal)));
        let answer = (taken_back(&state), is_applied(&effect.outcome));
        self.answers.lock().unwrap().insert(key, answer.clone());
        answer
    }

    fn restore(&self, raft: &Raft) -> State {
        let mut records = self.base.clone();
        for record in &mut records {
            if let Some(Record::Resource(resource)) = &mut record.record {
                let outdated = (0..2).filter(|node| raft.outdated[*node] != 0).map(|node| OutdatedReplica {
                    node: NAMES[node].into(),
                    number: absolute(raft.outdated[node]),
                });
                resource.arbitration = Some(Arbitration {
                    owner: raft.owner.map(|node| NAMES[node].into()).unwrap_or_default(),
                    generation: raft.generation.into(),
                    outdated: outdated.collect(),
                    claim: raft.claim.map(|(node, number)| TakeOverClaim {
                        node: NAMES[node].into(),
                        number: absolute(number),
                    }),
                });
            }
        }
        for (node, granted) in raft.attachments.iter().enumerate() {
            let Some(granted) = granted else { continue };
            let lifecycle = match granted.lifecycle {
                Lifecycle::Granted => AttachmentLifecycle::Attached,
                Lifecycle::Detaching => AttachmentLifecycle::Detaching,
                Lifecycle::Revoked => AttachmentLifecycle::Revoked,
            };
            let attachment = Attachment {
                resource: RESOURCE.into(),
                node: NAMES[node].into(),
                incarnation: granted.generation.into(),
                generation: granted.generation.into(),
                lifecycle: lifecycle.into(),
                revision: absolute(granted.revision),
                ..Attachment::default()
            };
            records.push(SnapshotRecord { record: Some(Record::Attachment(attachment)) });
        }
        State::from_records(records).unwrap()
    }

    fn command(&self, proposal: Proposal) -> command::Command {
        let resource = RESOURCE.to_owned();
        let resource_incarnation = self.incarnation;
        let name = |node: NodeId| NAMES[node].to_owned();
        match proposal {
            Proposal::Attach { node } => {
                command::Command::CreateAttachment(CreateAttachment { resource, node: name(node), mode: 0 })
            }
            Proposal::Detach { node } => {
                command::Command::DeleteAttachment(DeleteAttachment { resource, node: name(node) })
            }
            Proposal::ConfirmDetached { node, generation, revision } => {
                command::Command::ConfirmDetached(ConfirmDetached {
                    resource,
                    node: name(node),
                    attachment_incarnation: generation.into(),
                    revision: absolute(revision),
                })
            }
            Proposal::OutdatePeer { owner, generation } => command::Command::Outdate(Outdate {
                resource,
                resource_incarnation,
                node: name(1 - owner),
                owner: name(owner),
                generation: generation.into(),
            }),
            Proposal::OutdateCopy { node } => command::Command::Outdate(Outdate {
                resource,
                resource_incarnation,
                node: name(node),
                ..Outdate::default()
            }),
            Proposal::Claim { node, from_generation } => command::Command::ClaimTakeOver(ClaimTakeOver {
                resource,
                resource_incarnation,
                node: name(node),
                from_generation: from_generation.into(),
            }),
            Proposal::Withdraw { number } => command::Command::WithdrawClaim(WithdrawClaim {
                resource,
                resource_incarnation,
                number: absolute(number),
            }),
            Proposal::TakeOver { node, from_generation, claim } => command::Command::TakeOver(TakeOver {
                resource,
                resource_incarnation,
                node: name(node),
                from_generation: from_generation.into(),
                mode: 0,
                claim_number: absolute(claim),
            }),
            Proposal::Synced { node, number } => command::Command::Synced(Synced {
                resource,
                resource_incarnation,
                node: name(node),
                number: absolute(number),
            }),
        }
    }
}

fn absolute(index: Index) -> u64 {
    if index == 0 { 0 } else { SET_UP_UNTIL + u64::from(index) }
}

fn relative(index: u64) -> Index {
    Index::try_from(index.saturating_sub(SET_UP_UNTIL)).unwrap()
}

fn taken_back(state: &State) -> Raft {
    let arbitration = state.resource(RESOURCE).unwrap().arbitration.clone().unwrap_or_default();
    let id = |name: &str| NAMES.iter().position(|other| *other == name);
    let mut raft = Raft {
        owner: id(&arbitration.owner),
        generation: arbitration.generation.try_into().unwrap(),
        claim: arbitration.claim.as_ref().map(|claim| (id(&claim.node).unwrap(), relative(claim.number))),
        ..Raft::default()
    };
    for outdated in &arbitration.outdated {
        raft.outdated[id(&outdated.node).unwrap()] = relative(outdated.number);
    }
    for attachment in state.attachments() {
        let lifecycle = match attachment.lifecycle() {
            AttachmentLifecycle::Detaching => Lifecycle::Detaching,
            AttachmentLifecycle::Revoked => Lifecycle::Revoked,
            _ => Lifecycle::Granted,
        };
        raft.attachments[id(&attachment.node).unwrap()] = Some(Granted {
            generation: attachment.generation.try_into().unwrap(),
            lifecycle,
            revision: relative(attachment.revision),
        });
    }
    raft
}

fn is_applied(outcome: &Outcome) -> bool {
    matches!(outcome.outcome, Some(outcome::Outcome::Applied(_)))
}

fn command(command: command::Command) -> Command {
    Command { command: Some(command), ..Command::default() }
}

/// A cluster of two nodes with one resource on both, ready to be attached.
fn set_up() -> State {
    let mut state = State::new();
    let mut index = 0;
    let mut committed = |what: command::Command| {
        index += 1;
        let effect = apply(&mut state, index, 1, &command(what));
        assert!(is_applied(&effect.outcome), "{:?}", effect.outcome);
        index
    };
    committed(command::Command::InitializeCluster(InitializeCluster {
        cluster_id: "model".into(),
        name: "model".into(),
        lineage: 1,
        first_member: Some(Member {
            raft_id: 1,
            name: "c1".into(),
            address: "c1:6470".into(),
            store_incarnation: 1,
        }),
        numbers: None,
    }));
    let mut placed = Vec::new();
    for (position, name) in NAMES.iter().enumerate() {
        let node_incarnation = committed(command::Command::CreateNode(CreateNode {
            name: (*name).into(),
            addresses: vec![Address { name: "default".into(), ip: format!("10.0.0.{}", position + 1) }],
            options: None,
        }));
        committed(command::Command::RecordNodeFacts(RecordNodeFacts {
            node: (*name).into(),
            incarnation: node_incarnation,
            uname: (*name).into(),
            facts: Some(NodeFacts {
                drbd_generation: DrbdGeneration::DrbdGeneration84.into(),
                drbd_version: "8.4.11".into(),
                helper_can_run: true,
            }),
        }));
        let pool_incarnation = committed(command::Command::CreatePool(CreatePool {
            node: (*name).into(),
            name: "thin".into(),
            provider: Some(create_pool::Provider::LvmThin(LvmThinProvider {
                volume_group: "vg0".into(),
                thin_pool: "thin".into(),
            })),
            overcommit_percent: 0,
        }));
        committed(command::Command::RecordPoolCapacity(RecordPoolCapacity {
            node: (*name).into(),
            name: "thin".into(),
            incarnation: pool_incarnation,
            capacity_bytes: 1 << 34,
        }));
        placed.push(PlacedReplica {
            node: (*name).into(),
            node_incarnation,
            pool: "thin".into(),
            pool_incarnation,
            avoided_ports: Vec::new(),
        });
    }
    let incarnation = committed(command::Command::CreateResource(CreateResource {
        name: RESOURCE.into(),
        volume_sizes: vec![1 << 30],
        placed,
        computed_at_revision: 9,
        shared_secret: "0123456789abcdef".into(),
        day0_generation_id: 0x1234_5678,
        ..CreateResource::default()
    }));
    committed(command::Command::ConfirmResourceReady(ConfirmResourceReady {
        resource: RESOURCE.into(),
        incarnation,
    }));
    assert!(index <= SET_UP_UNTIL);
    state
}
