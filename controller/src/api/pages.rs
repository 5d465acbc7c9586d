//! Lists in pages: every page of a list comes from the same revision.
//!
//! A state shares its parts with the next one, so keeping a few costs little. A list whose state is no longer
//! kept ends with "compacted" and has to begin again; it must never go on in another state.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hawser_proto::v1;
use hawser_state::State;
use tokio::time::Instant;

use super::{
    context::{Context, Reading},
    error::ApiError,
};

/// The largest page, and the size where none is asked for.
pub const LARGEST_PAGE: usize = 500;
/// Lists that can be under way at different revisions.
const KEPT_STATES: usize = 32;
/// A list that was left alone for longer has to begin again.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// States that unfinished lists go on in.
#[derive(Default)]
pub struct Pages {
    kept: Mutex<VecDeque<(u64, Arc<State>, Instant)>>,
}

/// Where a list goes on.
pub struct Page {
    /// What it reads.
    pub reading: Reading,
    after: String,
    size: usize,
}

impl Context {
    /// The state for a page: a fresh one for the first, the list's own for the others.
    ///
    /// # Errors
    /// A wrong token or size, a list that has to begin again, or no read point.
    pub async fn page(
        &self,
        consistency: v1::Consistency,
        page: Option<v1::PageRequest>,
    ) -> Result<Page, ApiError> {
        let v1::PageRequest { size, token } = page.unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > LARGEST_PAGE {
            return Err(ApiError::invalid("page.size", format!("a page has at most {LARGEST_PAGE} objects")));
        }
        let size = if size == 0 { LARGEST_PAGE } else { size };
        if token.is_empty() {
            return Ok(Page { reading: self.read(consistency).await?, after: String::new(), size });
        }
        let (revision, after) = read_token(&token)
            .ok_or_else(|| ApiError::invalid("page.token", "this is not the token of a page"))?;
        let state = self.pages.state(revision).ok_or_else(|| {
            ApiError::Compacted(format!(
                "the list at revision {revision} can no longer go on; begin it again"
            ))
        })?;
        let observed = self.standing.borrow().reign().map(|reign| reign.observed.picture());
        Ok(Page { reading: Reading { state, revision, observed }, after, size })
    }

    /// Takes one page of what the keys order, and the token of the next one.
    pub fn take<T>(&self, page: &Page, all: impl Iterator<Item = (String, T)>) -> (Vec<T>, String) {
        let mut rest = all.skip_while(|(key, _)| !page.after.is_empty() && *key <= page.after);
        let mut taken = Vec::new();
        let mut last = String::new();
        for (key, object) in rest.by_ref().take(page.size) {
            taken.push(object);
            last = key;
        }
        if rest.next().is_none() {
            return (taken, String::new());
        }
        self.pages.keep(page.reading.revision, &page.reading.state);
        (taken, write_token(page.reading.revision, &last))
    }
}

/// Where a list at a revision goes on: after the last key of its page.
fn write_token(revision: u64, last: &str) -> String {
    format!("{revision}.{last}")
}

/// `None` for what [`write_token`] did not write.
fn read_token(token: &str) -> Option<(u64, String)> {
    let (revision, after) = token.split_once('.')?;
    let revision = revision.parse().ok()?;
    (write_token(revision, after) == token).then(|| (revision, after.to_owned()))
}

impl Pages {
    fn state(&self, revision: u64) -> Option<Arc<State>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.iter()
            .find(|(of, _, at)| *of == revision && now.duration_since(*at) < KEPT_FOR)
            .map(|(_, state, _)| state.clone())
    }

    fn keep(&self, revision: u64, state: &Arc<State>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.retain(|(of, _, at)| *of != revision && now.duration_since(*at) < KEPT_FOR);
        kept.push_back((revision, state.clone(), now));
        while kept.len() > KEPT_STATES {
            kept.pop_front();
        }
    }
}

/// A number as a key that sorts by its value.
#[must_use]
pub fn number_key(number: u64) -> String {
    format!("{number:020}")
}

/// Two names as a key that sorts by the first, then the second. A name never contains a slash.
#[must_use]
pub fn pair_key(first: &str, second: &str) -> String {
    // Names sort before their own extensions only if what follows sorts before every character of a name.
    format!("{first} {second}")
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn hostile_tokens_of_pages() {
        let samples = [write_token(8, "data n1"), write_token(u64::MAX, &number_key(7)), write_token(1, "")];
        check(&texts(&samples.each_ref().map(String::as_str), &["8.", "+8", "08"]), |token| {
            if let Some((revision, after)) = read_token(&token) {
                assert_eq!(write_token(revision, &after), token);
            }
        });
    }
}
