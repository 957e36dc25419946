//! Text to ids and back, tokenizer training, chat templates rendered to ids and loss mask.
