//! Stop strings that may be split over several pieces of text.

/// Watches streamed text for stop strings and holds back what may be the beginning of one.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    /// Watches for these strings; empty ones are left out.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Takes a piece of text and appends what may be shown to `text`; returns the stop string that was met, before which
    /// the text ends. The stop string that begins first wins, of those the one given first.
    pub fn push(&mut self, piece: &str, text: &mut String) -> Option<&str> {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop).map(|at| (at, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            text.push_str(&self.held[..at]);
            self.held.clear();
            return Some(stop);
        }
        let certain = self.held.len() - self.longest_beginning();
        text.push_str(&self.held[..certain]);
        self.held.drain(..certain);
        None
    }

    /// Ends the text: what was held back was no stop string and is appended.
    pub fn finish(&mut self, text: &mut String) {
        text.push_str(&self.held);
        self.held.clear();
    }

    /// Bytes at the end of the held text that are the beginning of a stop string.
    fn longest_beginning(&self) -> usize {
        let beginning = |stop: &String| {
            let most = self.held.len().min(stop.len() - 1);
            (1..=most).rev().find(|len| self.held.as_bytes().ends_with(&stop.as_bytes()[..*len])).unwrap_or(0)
        };
        // A cut inside a character cannot be: both strings are UTF-8 and a match begins where a character begins.
        self.stops.iter().map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut watch = StopStrings::new(&stops);
        let mut shown = Vec::new();
        for piece in pieces {
            let mut text = String::new();
            let stop = watch.push(piece, &mut text).map(str::to_owned);
            shown.push(text);
            if stop.is_some() {
                return (shown, stop);
            }
        }
        let mut text = String::new();
        watch.finish(&mut text);
        shown.push(text);
        (shown, None)
    }

    #[test]
    fn a_stop_string_split_over_pieces_is_met_and_never_shown() {
        let (shown, stop) = run(&["\nUser:"], &["Hello", "\nUs", "er", ": more"]);
        assert_eq!(shown, ["Hello", "", "", ""]);
        assert_eq!(stop.as_deref(), Some("\nUser:"));
    }

    #[test]
    fn what_only_looked_like_a_stop_is_shown_later() {
        let (shown, stop) = run(&["aab"], &["xa", "a", "a", "c"]);
        assert_eq!(shown, ["x", "", "a", "aac", ""]);
        assert_eq!(stop, None);
    }

    #[test]
    fn the_first_stop_in_the_text_wins() {
        let (shown, stop) = run(&["late", "ear"], &["an early and late one"]);
        assert_eq!((shown[0].as_str(), stop.as_deref()), ("an ", Some("ear")));
    }

    proptest! {
        #[test]
        fn the_shown_text_is_the_text_up_to_the_first_stop(
            text in "[abé]{0,30}", stops in prop::collection::vec("[abé]{1,4}", 0..4), cuts in prop::collection::vec(1usize..4, 0..40),
        ) {
            let characters: Vec<char> = text.chars().collect();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in cuts.into_iter().chain([characters.len()]) {
                let end = (start + cut).min(characters.len());
                pieces.push(characters[start..end].iter().collect::<String>());
                start = end;
            }
            let (stops, pieces): (Vec<&str>, Vec<&str>) =
                (stops.iter().map(String::as_str).collect(), pieces.iter().map(String::as_str).collect());
            let (shown, stop) = run(&stops, &pieces);
            match stops.iter().filter_map(|stop| text.find(stop)).min() {
                Some(at) if stop.is_some() => {
                    let met = shown.concat().len();
                    // Pieces arrive one by one, so a longer stop that begins earlier may still be incomplete when a
                    // shorter one is met; the text then ends at the one met first.
                    prop_assert!(met >= at && text[met..].starts_with(stop.as_deref().unwrap_or_default()));
                }
                Some(_) => prop_assert!(false, "a stop was missed"),
                None => prop_assert_eq!(shown.concat(), text),
            }
        }
    }
}
