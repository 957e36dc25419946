//! Tests of exit codes and messages.

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("{place}: cannot read")]
struct Outer {
    place: &'static str,
    #[source]
    source: io::Error,
}

fn failure(kind: ErrorKind) -> Failure {
    Failure::from(Outer { place: "a.gguf", source: io::Error::new(kind, "the cause") })
}

#[test]
fn a_missing_file_is_bad_input_and_a_full_disk_is_not() {
    assert_eq!(failure(ErrorKind::NotFound).exit, Exit::BadInput);
    assert_eq!(failure(ErrorKind::StorageFull).exit, Exit::Internal);
    assert_eq!(Failure::from("x".parse::<u8>().unwrap_err()).exit, Exit::BadInput);
}

#[test]
fn the_message_shows_causes_and_hints_on_lines_of_their_own() {
    let failure = failure(ErrorKind::NotFound).context("loading the model").hint("look at the path");
    let expected = "error: loading the model\n  caused by: a.gguf: cannot read\n  caused by: the cause\n  hint: look at the path";
    assert_eq!(failure.message(), expected);
}

#[test]
fn a_cause_that_the_error_already_says_is_not_repeated() {
    let inner = io::Error::new(ErrorKind::NotFound, "no such thing");
    let failure = Failure::from(inner).context("no such thing in `x`");
    assert_eq!(failure.message(), "error: no such thing in `x`");
}

#[test]
fn a_closed_pipe_is_a_success() {
    let code = report(Err(failure(ErrorKind::BrokenPipe)));
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}
