//! The `shakti` command: from a domain text to a private assistant.

fn main() {}
