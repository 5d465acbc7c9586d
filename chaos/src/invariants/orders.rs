//! 6: a satellite never obeys an order older than one that it has seen, also after it was killed.

use std::collections::BTreeMap;

use super::seen::Seen;

/// The newest document that each satellite has accepted: lineage and revision.
#[derive(Default)]
pub(super) struct Orders {
    newest: BTreeMap<String, (u64, u64)>,
}

impl Orders {
    pub(super) fn check(&mut self, seen: &Seen) -> Vec<String> {
        let mut found = Vec::new();
        for (node, now) in &seen.documents {
            let newest = self.newest.entry(node.clone()).or_insert(*now);
            if now < newest {
                found.push(format!(
                    "invariant 6: {node} obeys revision {} of lineage {} after {} of {}",
                    now.1, now.0, newest.1, newest.0
                ));
            }
            *newest = *now.max(newest);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obeying(lineage: u64, revision: u64) -> Seen {
        Seen { documents: BTreeMap::from([("n1".to_owned(), (lineage, revision))]), ..Seen::default() }
    }

    #[test]
    fn documents_only_rise_also_over_a_restart() {
        let mut orders = Orders::default();
        for seen in [obeying(1, 7), obeying(1, 7), Seen::default(), obeying(1, 9), obeying(2, 3)] {
            assert_eq!(orders.check(&seen), Vec::<String>::new());
        }
        assert_eq!(orders.check(&obeying(2, 2)).len(), 1, "a lower revision");
        assert_eq!(orders.check(&obeying(1, 10)).len(), 1, "an older lineage");
    }
}
