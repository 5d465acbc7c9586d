//! Making, showing and deleting a worker's resource.

use std::{sync::atomic::Ordering, time::Duration};

use hawser_proto::v1::{self, resource_service_client::ResourceServiceClient};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::{CALL, POLL, Worker, registrar::NEXT};
use crate::{
    api::Outcome,
    history::{Answer, Event, Object, Question},
};

const MEBIBYTE: u64 = 1 << 20;

impl Worker {
    pub(super) async fn create(&self) -> Option<Vec<String>> {
        let key = self.administrator.key();
        let request = v1::CreateResourceRequest {
            request_key: key,
            name: self.resource.clone(),
            volume_sizes: vec![self.draw(4..64) * MEBIBYTE],
            replicas: if self.draw(0..6) == 0 { 1 } else { 2 },
            ..Default::default()
        };
        let what = format!("create {} x{}", self.resource, request.replicas);
        self.asks(Question::Create);
        let created = self
            .administrator
            .call(&what, CALL, |channel| {
                let request = request.clone();
                async move { ResourceServiceClient::new(channel).create_resource(request).await }
            })
            .await;
        self.is_answered(match &created {
            Outcome::Done(done) => done.result.as_ref().map(|result| Answer::Created(result.revision)),
            Outcome::Refused(status) if status.code() == Code::AlreadyExists => Some(Answer::Exists),
            Outcome::Refused(_) => {
                self.is_refused();
                sleep(POLL).await;
                return None;
            }
            Outcome::Unknown => None,
        });
        // One that is there already is what an earlier life has left: its records are not known any more.
        if matches!(created, Outcome::Refused(_)) {
            let nodes = self.seen().await?.0;
            self.delete(&nodes).await;
            return None;
        }
        self.until(Duration::from_secs(60), |resource| {
            (resource.lifecycle() == v1::ResourceLifecycle::Ready && resource.data_may_exist)
                .then(|| resource.replicas.iter().map(|replica| replica.node.clone()).collect())
        })
        .await
    }

    pub(super) async fn delete(&self, nodes: &[String]) {
        self.detach(nodes).await;
        let request =
            v1::DeleteResourceRequest { request_key: self.administrator.key(), name: self.resource.clone() };
        self.asks(Question::Delete);
        let deleted = self
            .administrator
            .call(&format!("delete {}", self.resource), CALL, |channel| {
                let request = request.clone();
                async move { ResourceServiceClient::new(channel).delete_resource(request).await }
            })
            .await;
        self.is_answered(match &deleted {
            Outcome::Done(_) => Some(Answer::Deleted),
            Outcome::Refused(status) if status.code() == Code::NotFound => Some(Answer::Missing),
            Outcome::Refused(_) => {
                self.is_refused();
                return;
            }
            Outcome::Unknown => None,
        });
        if deleted.done().is_none() {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if self.is_gone().await {
                return;
            }
            sleep(POLL).await;
        }
    }

    fn asks(&self, question: Question) {
        self.note(Event::Asked { who: self.who.load(Ordering::Relaxed), question });
    }

    fn is_answered(&self, answer: Option<Answer>) {
        let who = self.who.load(Ordering::Relaxed);
        match answer {
            Some(answer) => self.note(Event::Answered { who, answer }),
            None => self.who.store(who + NEXT, Ordering::Relaxed),
        }
    }

    /// For a reason that says nothing of whether it is there.
    fn is_refused(&self) {
        self.history.withdraw(&self.object(), self.who.load(Ordering::Relaxed));
    }

    fn note(&self, event: Event) {
        self.history.note(&self.object(), event);
    }

    fn object(&self) -> Object {
        Object::Resource(self.resource.clone())
    }

    /// The nodes of the volume, and the volume, as the cluster says.
    pub(super) async fn seen(&self) -> Option<(Vec<String>, v1::Resource)> {
        let resource = self.listed().await?.into_iter().next()?;
        Some((resource.replicas.iter().map(|replica| replica.node.clone()).collect(), resource))
    }

    async fn is_gone(&self) -> bool {
        self.listed().await.is_some_and(|listed| listed.is_empty())
    }

    async fn listed(&self) -> Option<Vec<v1::Resource>> {
        let request = v1::ListResourcesRequest { name: self.resource.clone(), ..Default::default() };
        let answer = self
            .administrator
            .quietly(CALL, |channel| {
                let request = request.clone();
                async move { ResourceServiceClient::new(channel).list_resources(request).await }
            })
            .await
            .done()?;
        Some(answer.resources.into_iter().filter_map(|view| view.desired).collect())
    }

    pub(super) async fn until<T>(
        &self,
        within: Duration,
        holds: impl Fn(&v1::Resource) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some((_, resource)) = self.seen().await
                && let Some(found) = holds(&resource)
            {
                return Some(found);
            }
            sleep(POLL).await;
        }
        None
    }
}
