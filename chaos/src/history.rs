//! What the API was asked about some objects and what it answered, in the order in which it happened.
//!
//! It must never contain an answer that nobody waited for: a question without one may be answered at any time later, or
//! never.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The history of a run. Cheap to share.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<BTreeMap<String, Vec<Event>>>>);

/// Somebody's question, or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `who` asks. Whoever has asked in vain asks under another number from then on.
    Asked { who: u64, question: Question },
    /// `who` is answered.
    Answered { who: u64, answer: Answer },
}

/// What can be asked of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// To make it.
    Create,
    /// To delete it.
    Delete,
    /// Whether it is there.
    Show,
}

/// What can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// It was made, in this incarnation.
    Created(u64),
    /// It was there already.
    Exists,
    /// It was deleted.
    Deleted,
    /// There was none.
    Missing,
    /// It is there in this incarnation, or not there.
    Shown(Option<u64>),
}

impl History {
    pub(crate) fn note(&self, object: &str, event: Event) {
        self.objects().entry(object.to_owned()).or_default().push(event);
    }

    /// The events of each object.
    pub(crate) fn all(&self) -> BTreeMap<String, Vec<Event>> {
        self.objects().clone()
    }

    /// How often an object was asked about, and how often in vain or without an answer yet.
    pub(crate) fn asked(&self, object: &str) -> (usize, usize) {
        let objects = self.objects();
        let events = objects.get(object).map_or(&[][..], Vec::as_slice);
        let asked = events.iter().filter(|event| matches!(event, Event::Asked { .. })).count();
        (asked, 2 * asked - events.len())
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Event>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
