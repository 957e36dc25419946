//! Groups of documents and the split of each group.

use super::{CorpusSettings, Split};
use crate::hash::mix;

/// Disjoint sets of documents (union by smaller root, paths halved).
#[derive(Debug, Default)]
pub(super) struct Groups {
    parent: Vec<u32>,
}

impl Groups {
    /// Adds a document, alone in its group.
    pub(super) fn add(&mut self) -> u32 {
        let index = self.parent.len() as u32;
        self.parent.push(index);
        index
    }

    /// The representative of a document's group.
    pub(super) fn find(&mut self, mut document: u32) -> u32 {
        while self.parent[document as usize] != document {
            let grandparent = self.parent[self.parent[document as usize] as usize];
            self.parent[document as usize] = grandparent;
            document = grandparent;
        }
        document
    }

    /// Makes one group of two.
    pub(super) fn union(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }

    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }
}

/// One group as the draw sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Smallest hash among its documents.
    pub(super) key: u64,
    /// Whether a kept record belongs to it.
    pub(super) used: bool,
}

/// The split of every group; `None` for groups without kept records.
pub(super) fn assign(groups: &[Group], settings: &CorpusSettings) -> Vec<Option<Split>> {
    // 53 bits make an exact f64 in [0, 1).
    let draw = |group: &Group| (mix(group.key ^ mix(settings.seed)) >> 11) as f64 / (1u64 << 53) as f64;
    let mut splits: Vec<Option<Split>> = groups
        .iter()
        .map(|group| {
            let draw = draw(group);
            group.used.then_some(if draw < settings.validation {
                Split::Validation
            } else if draw < settings.validation + settings.test {
                Split::Test
            } else {
                Split::Train
            })
        })
        .collect();
    for (split, share) in [(Split::Validation, settings.validation), (Split::Test, settings.test)] {
        if share == 0.0 || splits.contains(&Some(split)) {
            continue;
        }
        let mut train: Vec<usize> =
            (0..groups.len()).filter(|&index| splits[index] == Some(Split::Train)).collect();
        train.sort_by(|&a, &b| {
            draw(&groups[a]).total_cmp(&draw(&groups[b])).then(groups[a].key.cmp(&groups[b].key))
        });
        if train.len() > 1 {
            splits[train[0]] = Some(split);
        }
    }
    splits
}
