//! What the API was asked about some objects and what it answered, in the order in which it happened.
//!
//! It must never contain an answer that nobody waited for: a question without one may be answered at any time later, or
//! never.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Of a resource only so many events are kept, the first ones, and none any more where so many changes were left without
/// an answer: whether answers fit together is costly to find out of many. The beginning of a history that fits is one
/// that fits.
const EVENTS: usize = 80;
const UNANSWERED_CHANGES: usize = 4;

/// The history of a run. Cheap to share.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<BTreeMap<Object, Vec<Event>>>>);

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    /// A resource group: it has gone when its deletion is answered.
    Group(String),
    /// A resource: after that it is on its way out, until its nodes have removed it.
    Resource(String),
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(formatter, "group {name}"),
            Self::Resource(name) => write!(formatter, "resource {name}"),
        }
    }
}

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
    /// It was deleted, or is on its way out.
    Deleted,
    /// There was none.
    Missing,
    /// It is there in this incarnation, or not there.
    Shown(Option<u64>),
    /// It is on its way out, in this incarnation.
    ShownLeaving(u64),
}

impl History {
    pub(crate) fn note(&self, object: &Object, event: Event) {
        let mut objects = self.objects();
        let events = objects.entry(object.clone()).or_default();
        if !is_full(object, events) {
            events.push(event);
        }
    }

    /// `who` was refused what it asked last, for a reason that says nothing of the object, and nothing was changed: as if
    /// it had never asked. A history that is full stays as it is: what came since is not in it.
    pub(crate) fn withdraw(&self, object: &Object, who: u64) {
        let mut objects = self.objects();
        let Some(events) = objects.get_mut(object).filter(|events| !is_full(object, events)) else { return };
        let by = |event: &Event| match event {
            Event::Asked { who, .. } | Event::Answered { who, .. } => *who,
        };
        let last = events.iter().rposition(|event| by(event) == who);
        if let Some(at) = last.filter(|at| matches!(events[*at], Event::Asked { .. })) {
            events.remove(at);
        }
    }

    /// The events of each object.
    pub(crate) fn all(&self) -> BTreeMap<Object, Vec<Event>> {
        self.objects().clone()
    }

    /// How often an object was asked about, and how often in vain or without an answer yet.
    pub(crate) fn asked(&self, object: &Object) -> (usize, usize) {
        let objects = self.objects();
        let events = objects.get(object).map_or(&[][..], Vec::as_slice);
        let asked = events.iter().filter(|event| matches!(event, Event::Asked { .. })).count();
        (asked, 2 * asked - events.len())
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Object, Vec<Event>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing more is kept. Once it is, it stays so.
fn is_full(object: &Object, events: &[Event]) -> bool {
    match object {
        // Whoever asks about groups goes on to the next one in time.
        Object::Group(_) => false,
        Object::Resource(_) => events.len() >= EVENTS || unanswered_changes(events) >= UNANSWERED_CHANGES,
    }
}

/// How many changes were asked for and have no answer yet.
fn unanswered_changes(events: &[Event]) -> usize {
    let mut open = BTreeMap::new();
    for event in events {
        match event {
            Event::Asked { who, question } => open.insert(*who, *question),
            Event::Answered { who, .. } => open.remove(who),
        };
    }
    open.into_values().filter(|question| *question != Question::Show).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_history_stays_full_whatever_is_withdrawn() {
        let table = [
            ("events", EVENTS - 1, Question::Show),
            ("changes without an answer", UNANSWERED_CHANGES - 1, Question::Delete),
        ];
        for (full_of, before, question) in table {
            let (history, object) = (History::default(), Object::Resource("r0".into()));
            let asks = |who| history.note(&object, Event::Asked { who, question });
            (0..before as u64).for_each(asks);
            history.note(&object, Event::Asked { who: 500, question: Question::Create });
            asks(600);
            let full = history.all();

            history.withdraw(&object, 500);
            history.note(&object, Event::Answered { who: 600, answer: Answer::Missing });

            assert_eq!(history.all(), full, "{full_of}: an answer without its question");
        }
    }

    #[test]
    fn what_was_refused_is_as_if_it_had_never_been_asked() {
        let (history, object) = (History::default(), Object::Resource("r0".into()));
        let shown = Event::Asked { who: 1, question: Question::Show };
        history.note(&object, Event::Asked { who: 500, question: Question::Create });
        history.note(&object, shown.clone());

        history.withdraw(&object, 500);

        assert_eq!(history.all()[&object], [shown]);
    }
}
