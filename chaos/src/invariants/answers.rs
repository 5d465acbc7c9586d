//! 1, as whoever asks sees it: the answers of the API are those of one object that does one thing after another, each
//! between its question and its answer. So no acknowledged change is lost, and no read is older than what was known
//! before it was asked for.
//!
//! The check is stateright's; this file says what one object would answer.

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::history::{Answer, Event, History, Object, Question};

/// One object, as it would answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct One {
    standing: Standing,
    /// It does not go at once when it is deleted.
    lingers: bool,
}

/// The incarnation is not known where nobody was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    Absent,
    Present(Option<u64>),
    /// It may have gone meanwhile: that is known once somebody finds it so.
    Leaving(Option<u64>),
}

impl One {
    /// As it is before anybody has made it.
    fn absent(object: &Object) -> Self {
        Self { standing: Standing::Absent, lingers: matches!(object, Object::Resource(_)) }
    }

    fn deleted(self, incarnation: Option<u64>) -> Standing {
        if self.lingers { Standing::Leaving(incarnation) } else { Standing::Absent }
    }
}

impl SequentialSpec for One {
    type Op = Question;
    type Ret = Answer;

    /// For questions that nobody got an answer to.
    fn invoke(&mut self, question: &Question) -> Answer {
        use Standing::{Absent, Leaving, Present};
        match (self.standing, question) {
            // Where it was still leaving, it was refused, and that is as if it had never been asked.
            (Absent | Leaving(_), Question::Create) => {
                self.standing = Present(None);
                Answer::Created(0)
            }
            (Present(_), Question::Create) => Answer::Exists,
            (Absent, Question::Delete) => Answer::Missing,
            (Present(incarnation), Question::Delete) => {
                self.standing = self.deleted(incarnation);
                Answer::Deleted
            }
            (Leaving(_), Question::Delete) => Answer::Deleted,
            (Absent, Question::Show) => Answer::Shown(None),
            (Present(incarnation) | Leaving(incarnation), Question::Show) => Answer::Shown(incarnation),
        }
    }

    fn is_valid_step(&mut self, question: &Question, answer: &Answer) -> bool {
        use Standing::{Absent, Leaving, Present};
        let next = match (self.standing, question, *answer) {
            (Absent | Leaving(_), Question::Create, Answer::Created(incarnation)) => {
                Some(Present(Some(incarnation)))
            }
            (standing @ (Present(_) | Leaving(_)), Question::Create, Answer::Exists) => Some(standing),
            (Present(incarnation), Question::Delete, Answer::Deleted) => Some(self.deleted(incarnation)),
            (standing @ Leaving(_), Question::Delete, Answer::Deleted) => Some(standing),
            (Absent | Leaving(_), Question::Delete, Answer::Missing) => Some(Absent),
            (Absent | Leaving(_), Question::Show, Answer::Shown(None)) => Some(Absent),
            (Present(known), Question::Show, Answer::Shown(Some(shown))) if may_be(known, shown) => {
                Some(Present(Some(shown)))
            }
            (Leaving(known), Question::Show, Answer::ShownLeaving(shown)) if may_be(known, shown) => {
                Some(Leaving(Some(shown)))
            }
            _ => None,
        };
        self.standing = next.unwrap_or(self.standing);
        next.is_some()
    }
}

fn may_be(known: Option<u64>, shown: u64) -> bool {
    known.is_none_or(|known| known == shown)
}

/// The objects whose answers no single one could have given.
pub(super) fn check(history: &History) -> Vec<String> {
    let all = history.all().into_iter();
    all.filter(|(object, events)| !could_have_answered(One::absent(object), events))
        .map(|(object, events)| {
            format!("invariant 1: no single {object} could have answered so: {}", in_words(&events))
        })
        .collect()
}

fn could_have_answered(one: One, events: &[Event]) -> bool {
    // A look that nobody got an answer to says nothing, and would be tried at every place.
    let answered = |who: u64, after: usize| {
        events[after..].iter().any(|event| matches!(event, Event::Answered { who: whom, .. } if *whom == who))
    };
    let mut tester = LinearizabilityTester::new(one);
    let heard = events.iter().enumerate().try_for_each(|(at, event)| match *event {
        Event::Asked { who, question: Question::Show } if !answered(who, at) => Ok(()),
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

    fn group() -> One {
        One::absent(&Object::Group("g0".into()))
    }

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
            assert_eq!(could_have_answered(group(), &history(&calls)), passes, "{what}");
        }
    }

    #[test]
    fn what_is_on_its_way_out_may_go_at_any_time_but_not_come_back() {
        use Answer::{Created, Deleted, Exists, Missing, Shown, ShownLeaving};
        use Question::{Create, Delete, Show};
        let resource = One::absent(&Object::Resource("r0".into()));
        let deleted = [(1, Create, Some(Created(7))), (1, Delete, Some(Deleted))];
        let table = [
            (
                "it goes and is made again",
                true,
                vec![
                    (2, Show, Some(ShownLeaving(7))),
                    (1, Create, Some(Exists)),
                    (2, Show, Some(Shown(None))),
                    (1, Create, Some(Created(9))),
                    (2, Show, Some(Shown(Some(9)))),
                ],
            ),
            ("nobody saw it go", true, vec![(1, Create, Some(Created(9))), (2, Show, Some(Shown(Some(9))))]),
            ("it is deleted again", true, vec![(1, Delete, Some(Deleted)), (1, Delete, Some(Missing))]),
            ("a read from before its deletion", false, vec![(2, Show, Some(Shown(Some(7))))]),
            ("it comes back", false, vec![(2, Show, Some(Shown(None))), (2, Show, Some(ShownLeaving(7)))]),
            ("another one leaves", false, vec![(2, Show, Some(ShownLeaving(9)))]),
            (
                "a deletion that nobody asked for",
                false,
                vec![(1, Create, Some(Created(9))), (2, Show, Some(ShownLeaving(9)))],
            ),
            (
                "one that nobody got an answer to",
                true,
                vec![(1, Create, Some(Created(9))), (3, Delete, None), (2, Show, Some(ShownLeaving(9)))],
            ),
        ];
        for (what, passes, calls) in table {
            let calls: Vec<_> = deleted.into_iter().chain(calls).collect();
            assert_eq!(could_have_answered(resource, &history(&calls)), passes, "{what}");
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
        assert!(could_have_answered(group(), &at_once(None)));
        assert!(could_have_answered(group(), &at_once(Some(7))));
        assert!(!could_have_answered(group(), &at_once(Some(8))));
    }
}
