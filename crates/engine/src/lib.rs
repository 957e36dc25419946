//! Sessions, prefill and decode, sampling, streaming text.
