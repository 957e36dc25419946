//! The harness seen to notice what it is there for.

use super::*;

fn target(test: &str) -> Target<'_> {
    Target { test, seeds: vec![vec![7; 64]], words: &["word"], rounds: 50 }
}

fn is_untouched(bytes: &[u8]) -> bool {
    bytes[..8.min(bytes.len())] == [7; 8]
}

#[test]
fn a_sound_parser_passes() {
    target("tests::a_sound_parser_passes").run(is_untouched);
}

#[test]
#[cfg(target_os = "linux")]
#[should_panic(expected = "round 5: ")]
fn a_panic_is_reported_with_its_round() {
    let target = target("tests::a_panic_is_reported_with_its_round");
    let bad = target.input(5);
    target.run(|bytes| {
        assert!(bytes != bad, "a bug");
        is_untouched(bytes)
    });
}

#[test]
#[cfg(target_os = "linux")]
#[should_panic(expected = "round 5: ")]
fn an_allocation_beyond_the_limit_is_reported_with_its_round() {
    let target = target("tests::an_allocation_beyond_the_limit_is_reported_with_its_round");
    let bad = target.input(5);
    target.run(|bytes| {
        let claimed = if bytes == bad { 2 * MEMORY_LIMIT as usize } else { 1 };
        std::hint::black_box(vec![1u8; claimed]).len() == claimed && is_untouched(bytes)
    });
}

#[test]
#[cfg(target_os = "linux")]
#[should_panic(expected = "round 49: ")]
fn a_parser_that_refuses_nothing_is_no_test() {
    target("tests::a_parser_that_refuses_nothing_is_no_test").run(|_| true);
}

#[test]
fn inputs_depend_on_the_round_alone() {
    let target = target("");
    assert_eq!(target.input(3), target.input(3));
    assert_ne!(target.input(3), target.input(4));
}
