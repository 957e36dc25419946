"""Trains a small Llama chat model with Transformers alone, to be the base of a fine-tuning here.

    python make_chat_checkpoint.py TEXTS.jsonl CHATS.jsonl OUT --minutes 8

TEXTS has `text`, CHATS has `instruction` and `response` in each line. Tokenizer (byte-level BPE, 8,192 ids), chat template, model (6 layers,
width 256, 8 heads, 4 KV heads, float32) and the folder are written by tokenizers and Transformers; nothing of Shakti takes part.
"""

import argparse
import json
import random
import time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SEQUENCE = 256
BATCH = 8


def tokenizer_of(texts):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        special_tokens=["<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|im_end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("texts")
    parser.add_argument("chats")
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    random.seed(1)
    texts = [json.loads(line)["text"] for line in open(args.texts)]
    chats = [json.loads(line) for line in open(args.chats)]
    chats = [
        [{"role": "user", "content": c["instruction"]}, {"role": "assistant", "content": c["response"]}] for c in chats
    ]
    tokenizer = tokenizer_of(texts)
    rendered = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    ids = [i for text in texts for i in [0, *tokenizer(text, add_special_tokens=False).input_ids, 1]]
    chat_ids = [i for text in rendered for i in tokenizer(text, add_special_tokens=False).input_ids]
    print(f"{len(ids)} ids of text, {len(chat_ids)} of chats", flush=True)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=True, initializer_range=0.0625,
        bos_token_id=0, eos_token_id=4, pad_token_id=2,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, betas=(0.9, 0.95), weight_decay=0.1)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    ids, chat_ids = torch.tensor(ids), torch.tensor(chat_ids)
    start, step, share = time.time(), 0, 0.0
    while share < 1.0:
        # Texts for two thirds of the time, then conversations.
        source = ids if share < 0.67 else chat_ids
        starts = torch.randint(0, len(source) - SEQUENCE, (BATCH,))
        batch = torch.stack([source[s : s + SEQUENCE] for s in starts])
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1.0, step / 50) * max(0.05, 1.0 - share)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        share = (time.time() - start) / (60 * args.minutes)
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f} share {share:.2f}", flush=True)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is a river?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    print(tokenizer.decode(model.generate(**prompt, max_new_tokens=60, do_sample=False)[0]))


if __name__ == "__main__":
    main()
