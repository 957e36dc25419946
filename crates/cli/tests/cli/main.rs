//! The real binary, run as a user runs it: standard output, messages, exit codes.

mod adapters;
mod bad_input;
mod bench;
mod chat;
mod cleaning;
mod common;
mod convert;
mod data;
mod disk_full;
mod generate;
mod model_info;
mod perplexity;
mod pipeline;
mod plan;
mod privacy;
mod quickstart;
mod ranks;
mod runs;
mod tokenizer;
mod train;
mod usage;
