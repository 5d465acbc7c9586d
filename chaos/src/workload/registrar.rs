//! People who make, delete and look at the same few resource groups, and look at the workers' resources, so that what one
//! is told can be held against what others are told.
//!
//! A group is what it is as soon as it is committed: nothing that a node does comes between. A resource that is deleted
//! goes when its nodes have removed it.

use std::time::Duration;

use hawser_proto::v1::{
    self, resource_group_service_client::ResourceGroupServiceClient,
    resource_service_client::ResourceServiceClient,
};
use tokio::time::sleep;
use tonic::{Code, transport::Channel};

use super::{CALL, Staff};
use crate::{
    api::Outcome,
    history::{Answer, Event, Object, Question},
};

/// A group is left alone after so many questions: whether answers fit together is costly to find out of many.
const QUESTIONS: usize = 24;
/// The same for questions that nobody answered.
const UNANSWERED: usize = 4;
/// Groups that are asked about at a time.
const GROUPS: u64 = 2;

/// Whoever has asked in vain goes on under a number that is so much higher.
pub(super) const NEXT: u64 = 1_000;

/// One of them.
pub(crate) struct Registrar {
    pub(crate) number: u64,
    pub(crate) staff: Staff,
    /// How many workers' resources there are, r0 and so on.
    pub(crate) resources: u64,
    /// Asks for what the controller has at hand, however old: to prove that this would be found out.
    pub(crate) reads: v1::Consistency,
}

impl Registrar {
    /// Asks until it is calm.
    pub(crate) async fn work(self) {
        // Whoever asked in vain goes on under another number: the question may still be answered.
        let mut who = self.number;
        let mut round = 0;
        while !self.staff.is_calm() {
            let (object, question) = match self.staff.draw(0..13) {
                0..4 => (self.group(&mut round), Question::Create),
                4..7 => (self.group(&mut round), Question::Delete),
                7..10 => (self.group(&mut round), Question::Show),
                _ => (self.resource(), Question::Show),
            };
            self.staff.history.note(&object, Event::Asked { who, question });
            let answer = match &object {
                Object::Group(group) => self.ask(group, question).await,
                // Its worker alone makes and deletes it: what is on it has to be known.
                Object::Resource(resource) => self.show_resource(resource).await,
            };
            match answer {
                Some(answer) => self.staff.history.note(&object, Event::Answered { who, answer }),
                None => who += NEXT,
            }
            sleep(Duration::from_millis(self.staff.draw(20..1_200 * self.staff.leisure))).await;
        }
        self.staff.finish();
    }

    /// One of the groups of this round; a new round where one has been asked about enough.
    fn group(&self, round: &mut u64) -> Object {
        let at = self.staff.draw(0..GROUPS);
        loop {
            let group = Object::Group(format!("g{round}-{at}"));
            let (asked, unanswered) = self.staff.history.asked(&group);
            if asked < QUESTIONS && unanswered < UNANSWERED {
                return group;
            }
            *round += 1;
        }
    }

    fn resource(&self) -> Object {
        Object::Resource(format!("r{}", self.staff.draw(0..self.resources)))
    }

    async fn ask(&self, group: &str, question: Question) -> Option<Answer> {
        match question {
            Question::Create => self.create(group).await,
            Question::Delete => self.delete(group).await,
            Question::Show => self.show(group).await,
        }
    }

    /// Makes it, and sometimes asks again with the same key: the answer must be the same then.
    async fn create(&self, group: &str) -> Option<Answer> {
        let request = v1::CreateResourceGroupRequest {
            request_key: self.staff.administrator.key(),
            name: group.to_owned(),
            replicas: 2,
            layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
            ..Default::default()
        };
        let answer = self.create_as(group, &request).await?;
        if self.staff.draw(0..4) == 0 {
            sleep(Duration::from_millis(self.staff.draw(0..3_000))).await;
            let again = self.create_as(group, &request).await;
            if again.is_some_and(|again| again != answer) {
                self.staff.violations.note(format!(
                    "invariant 1: the same request to create {group} was answered {answer:?}, then {again:?}"
                ));
            }
        }
        Some(answer)
    }

    async fn create_as(&self, group: &str, request: &v1::CreateResourceGroupRequest) -> Option<Answer> {
        let what = format!("create group {group}");
        let ask = |channel: Channel| {
            let request = request.clone();
            async move { ResourceGroupServiceClient::new(channel).create_resource_group(request).await }
        };
        match self.staff.administrator.call(&what, CALL, ask).await {
            Outcome::Done(done) => done.result.map(|result| Answer::Created(result.revision)),
            Outcome::Refused(status) => self.refused(group, &status),
            Outcome::Unknown => None,
        }
    }

    async fn delete(&self, group: &str) -> Option<Answer> {
        let request = v1::DeleteResourceGroupRequest {
            request_key: self.staff.administrator.key(),
            name: group.to_owned(),
        };
        let what = format!("delete group {group}");
        let ask = |channel: Channel| {
            let request = request.clone();
            async move { ResourceGroupServiceClient::new(channel).delete_resource_group(request).await }
        };
        match self.staff.administrator.call(&what, CALL, ask).await {
            Outcome::Done(_) => Some(Answer::Deleted),
            Outcome::Refused(status) => self.refused(group, &status),
            Outcome::Unknown => None,
        }
    }

    async fn show(&self, group: &str) -> Option<Answer> {
        let request = v1::ListResourceGroupsRequest {
            name: group.to_owned(),
            consistency: self.reads.into(),
            ..Default::default()
        };
        let ask = |channel: Channel| {
            let request = request.clone();
            async move { ResourceGroupServiceClient::new(channel).list_resource_groups(request).await }
        };
        let shown = self.staff.administrator.quietly(CALL, ask).await.done()?;
        Some(Answer::Shown(shown.groups.first().map(|group| group.incarnation)))
    }

    async fn show_resource(&self, resource: &str) -> Option<Answer> {
        let request = v1::ListResourcesRequest {
            name: resource.to_owned(),
            consistency: self.reads.into(),
            ..Default::default()
        };
        let ask = |channel: Channel| {
            let request = request.clone();
            async move { ResourceServiceClient::new(channel).list_resources(request).await }
        };
        let shown = self.staff.administrator.quietly(CALL, ask).await.done()?;
        let resource = shown.resources.into_iter().find_map(|view| view.desired);
        Some(match resource {
            Some(resource) if resource.lifecycle() == v1::ResourceLifecycle::Deleting => {
                Answer::ShownLeaving(resource.incarnation)
            }
            resource => Answer::Shown(resource.map(|resource| resource.incarnation)),
        })
    }

    fn refused(&self, group: &str, status: &tonic::Status) -> Option<Answer> {
        match status.code() {
            Code::AlreadyExists => Some(Answer::Exists),
            Code::NotFound => Some(Answer::Missing),
            _ => {
                self.staff.violations.note(format!(
                    "invariant 15: what was asked of group {group} was right, but it was refused: {}",
                    status.message()
                ));
                None
            }
        }
    }
}
