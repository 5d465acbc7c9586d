//! 1, as whoever asks sees it: the answers of the API are those of one object that does one thing after another, each
//! between its question and its answer. So no acknowledged change is lost, and no read is older than what was known
//! before it was asked for.
//!
//! The check is stateright's; this file says what one object would answer.

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::history::{Answer, Event, History, Question};

/// An object that is there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Object {
    Absent,
    /// The incarnation is not known where nobody was told.
    Present(Option<u64>),
}

impl SequentialSpec for Object {
    type Op = Question;
    type Ret = Answer;

    /// For questions that nobody got an answer to.
    fn invoke(&mut self, question: &Question) -> Answer {
        match (*self, question) {
            (Self::Absent, Question::Create) => {
                *self = Self::Present(None);
                Answer::Created(0)
            }
            (Self::Present(_), Question::Create) => Answer::Exists,
            (Self::Absent, Question::Delete) => Answer::Missing,
            (Self::Present(_), Question::Delete) => {
                *self = Self::Absent;
                Answer::Deleted
            }
            (Self::Absent, Question::Show) => Answer::Shown(None),
            (Self::Present(incarnation), Question::Show) => Answer::Shown(incarnation),
        }
    }

    fn is_valid_step(&mut self, question: &Question, answer: &Answer) -> bool {
        let (valid, next) = match (*self, question, *answer) {
            (Self::Absent, Question::Create, Answer::Created(incarnation)) => {
                (true, Self::Present(Some(incarnation)))
            }
            (Self::Present(_), Question::Create, Answer::Exists) => (true, *self),
            (Self::Present(_), Question::Delete, Answer::Deleted) => (true, Self::Absent),
            (Self::Absent, Question::Delete, Answer::Missing) => (true, *self),
            (Self::Absent, Question::Show, Answer::Shown(None)) => (true, *self),
            (Self::Present(known), Question::Show, Answer::Shown(Some(shown))) => {
                (known.is_none_or(|known| known == shown), Self::Present(Some(shown)))
            }
            _ => (false, *self),
        };
        *self = next;
        valid
    }
}

/// The objects whose answers no single one could have given.
pub(super) fn check(history: &History) -> Vec<String> {
    let all = history.all().into_iter();
    all.filter(|(_, events)| !is_linearizable(events))
        .map(|(object, events)| {
            format!("invariant 1: no single object {object} could have answered so: {}", in_words(&events))
        })
        .collect()
}

fn is_linearizable(events: &[Event]) -> bool {
    let mut tester = LinearizabilityTester::new(Object::Absent);
    let heard = events.iter().try_for_each(|event| match *event {
        Event::Asked { who, question } => tester.on_invoke(who, question).map(drop),
        Event::Answered { who, answer } => tester.on_return(who, answer).map(drop),
    });
    heard.is_ok() && tester.is_consistent()
}

fn in_words(events: &[Event]) -> String {
    let words = events.iter().map(|event| match event {
        Event::Asked { who, question } => format!("{who}: {question:?}?"),
        Event::Answered { who, answer } => format!("{who}: {answer:?}."),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with its answer, or none.
    fn history(calls: &[(u64, Question, Option<Answer>)]) -> Vec<Event> {
        calls
            .iter()
            .flat_map(|(who, question, answer)| {
                let asked = Event::Asked { who: *who, question: *question };
                std::iter::once(asked).chain(answer.map(|answer| Event::Answered { who: *who, answer }))
            })
            .collect()
    }

    #[test]
    fn what_one_object_could_have_answered_passes_and_nothing_else() {
        use Answer::{Created, Deleted, Exists, Missing, Shown};
        use Question::{Create, Delete, Show};
        let table = [
            (
                "one after another",
                true,
                vec![
                    (1, Create, Some(Created(7))),
                    (2, Show, Some(Shown(Some(7)))),
                    (1, Delete, Some(Deleted)),
                    (2, Show, Some(Shown(None))),
                    (1, Delete, Some(Missing)),
                ],
            ),
            ("a stale read", false, vec![(1, Create, Some(Created(7))), (2, Show, Some(Shown(None)))]),
            (
                "a read of an earlier incarnation",
                false,
                vec![
                    (1, Create, Some(Created(7))),
                    (1, Delete, Some(Deleted)),
                    (1, Create, Some(Created(9))),
                    (2, Show, Some(Shown(Some(7)))),
                ],
            ),
            (
                "an acknowledged creation is lost",
                false,
                vec![(1, Create, Some(Created(7))), (2, Create, Some(Created(9)))],
            ),
            (
                "an acknowledged deletion is lost",
                false,
                vec![(1, Create, Some(Created(7))), (1, Delete, Some(Deleted)), (2, Create, Some(Exists))],
            ),
            (
                "nobody knows whether it was made, and it was",
                true,
                vec![(1, Create, None), (2, Show, Some(Shown(Some(7))))],
            ),
            (
                "nobody knows whether it was made, and it is made late",
                true,
                vec![(1, Create, None), (2, Show, Some(Shown(None))), (2, Show, Some(Shown(Some(7))))],
            ),
            (
                "but it is not unmade",
                false,
                vec![(1, Create, None), (2, Show, Some(Shown(Some(7)))), (2, Show, Some(Shown(None)))],
            ),
        ];
        for (what, passes, calls) in table {
            assert_eq!(is_linearizable(&history(&calls)), passes, "{what}");
        }
    }

    #[test]
    fn two_at_once_may_be_answered_in_either_order() {
        let at_once = |shown| {
            [
                Event::Asked { who: 1, question: Question::Create },
                Event::Asked { who: 2, question: Question::Show },
                Event::Answered { who: 2, answer: Answer::Shown(shown) },
                Event::Answered { who: 1, answer: Answer::Created(7) },
            ]
        };
        assert!(is_linearizable(&at_once(None)));
        assert!(is_linearizable(&at_once(Some(7))));
        assert!(!is_linearizable(&at_once(Some(8))));
    }
}
