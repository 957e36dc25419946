//! Sequences that share a beginning and part: each gives the bits of one that was fed alone from the start.

mod sessions;

use std::sync::Arc;

use sessions::{bounded, config, load, random_ids};
use shakti_engine::{CacheMode, KvType, Network, Session, feed_batch};
use shakti_kernels::KernelSet;
use shakti_model::LayerType;

use LayerType::{BlockSparseAttention as Sparse, FullAttention as Full, SlidingAttention as Sliding};

const STREAM: CacheMode = CacheMode::Streaming { window: 128 };

/// Networks of each attention pattern alone and together, with every type of keys and values.
fn networks() -> impl Iterator<Item = (String, Arc<Network>)> {
    let kernels = KernelSet::best().expect("a kernel set");
    let patterns = [vec![Full; 2], vec![Sliding; 2], vec![Sparse; 2], vec![Full, Sliding, Sparse]];
    patterns.into_iter().flat_map(move |pattern| {
        KvType::ALL.map(|kind| {
            let network = load(&config(&pattern, 100), kernels, 2).with_kv_type(kind);
            (format!("{pattern:?}, {}", kind.name()), Arc::new(network))
        })
    })
}

#[test]
fn forks_give_the_bits_of_sequences_fed_from_the_start() {
    for (place, network) in networks() {
        for mode in [CacheMode::Bounded { max_seq_len: 900 }, STREAM] {
            // Inside a block, at its end, past the windows, past the reach of the sparse pattern.
            for shared in [1, 64, 150, 600] {
                let beginning = random_ids(shared, 1);
                let mut parent = Session::new(&network, mode);
                parent.feed(&beginning).expect("room");
                let mut forks = [parent.fork(), parent.fork()];
                let [first, second] = &mut forks;
                let rests = [2, 3, 4].map(|seed| random_ids(40 * seed as usize, seed));
                for (session, rest) in [first, &mut parent, second].into_iter().zip(&rests) {
                    let found = session.feed(rest).expect("room");
                    let whole = [&beginning[..], rest].concat();
                    let expected = Session::new(&network, mode).feed(&whole).expect("room");
                    assert_eq!(found, expected, "{place}, {mode:?}, {shared} shared");
                    assert_eq!(session.tokens(), whole);
                }
            }
        }
    }
}

#[test]
fn forks_go_on_together_in_one_batch() {
    for (place, network) in networks() {
        let beginning = random_ids(200, 5);
        let mut parent = bounded(&network, 400);
        parent.feed(&beginning).expect("room");
        let mut forks = [parent.fork(), parent.fork(), parent.fork()];
        drop(parent);
        let ids: Vec<Vec<u32>> = (6..9).map(|seed| random_ids(30, seed)).collect();
        for step in 0..30 {
            let [a, b, c] = &mut forks;
            let next: Vec<&[u32]> = ids.iter().map(|ids| &ids[step..=step]).collect();
            feed_batch(&mut [a, b, c], &next).expect("room");
        }
        for (mut fork, ids) in forks.into_iter().zip(ids) {
            let expected = bounded(&network, 400).feed(&[&beginning[..], &ids, &[7]].concat()).expect("room");
            assert_eq!(fork.feed(&[7]).expect("room"), expected, "{place}");
        }
    }
}

#[test]
fn a_fork_of_a_fork_and_one_that_goes_back_leave_the_others_alone() {
    for (place, network) in networks() {
        let ids = random_ids(90, 10);
        let mut parent = bounded(&network, 300);
        parent.feed(&ids).expect("room");
        let mut fork = parent.fork();
        fork.truncate(70).expect("inside every window");
        fork.feed(&random_ids(50, 11)).expect("room");
        let mut grandchild = parent.fork().fork();
        grandchild.reset();
        grandchild.feed(&random_ids(100, 12)).expect("room");
        let expected = bounded(&network, 300).feed(&[&ids[..], &[3]].concat()).expect("room");
        assert_eq!(parent.feed(&[3]).expect("room"), expected, "{place}");
    }
}
