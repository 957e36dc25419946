"""Writes finance.jsonl and legal.jsonl: questions of TAT-QA and LegalBench as conversations for `shakti quickstart --data`.

    python make_domain_sft.py --tatqa DIR --legalbench DIR --out DIR [--characters 1000]

TAT-QA (Zhu et al. 2021, CC BY 4.0): the passages that a question needs, its table where it needs one, the question; the answer with its unit.
One document is one table with its passages. LegalBench (Guha et al. 2023; the tasks have licences of their own): the instruction of a task and a
text, as in base_prompt.txt without its examples; the answer is the label. Tasks that have no such file are passed over. The same clause occurs in
several tasks, and some tasks vary the end of one story: texts whose first 60 letters and digits agree are one document. What is
longer than `--characters` is left out, since a model of a short context would see it cut. Same input, same bytes.
"""

import argparse
import csv
import json
from pathlib import Path


def conversation(document, question, answer):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"document": document, "messages": messages}


def table_text(rows):
    lines = (" | ".join(cell.strip() for cell in row) for row in rows)
    return "\n".join(line for line in lines if line.strip(" |"))


def tatqa_answer(question):
    answer = question["answer"]
    values = answer if isinstance(answer, list) else [answer]
    text = ", ".join(str(value) for value in values)
    scale = question["scale"]
    if not scale:
        return text
    return text + "%" if scale == "percent" and len(values) == 1 and not text.endswith("%") else f"{text} {scale}"


def tatqa(folder):
    for name in ("tatqa_dataset_dev.json", "tatqa_dataset_test_gold.json"):
        for entry in json.loads((folder / name).read_text(encoding="utf-8")):
            paragraphs = {str(paragraph["order"]): paragraph["text"] for paragraph in entry["paragraphs"]}
            for question in entry["questions"]:
                parts = [paragraphs[order] for order in question["rel_paragraphs"] if order in paragraphs]
                if question["answer_from"] != "text":
                    parts.append(table_text(entry["table"]["table"]))
                text = "\n".join([*parts, "Question: " + question["question"]])
                yield conversation(entry["table"]["uid"], text, tatqa_answer(question))


def question_form(prompt):
    """The instruction of a prompt and its last paragraph, which asks; the examples between them and the word before the answer fall away."""
    paragraphs = [paragraph.strip() for paragraph in prompt.strip().split("\n\n")]
    asks = paragraphs[-1].rsplit("\n", 1)[0]
    return asks if len(paragraphs) == 1 else f"{paragraphs[0]}\n{asks}"


def document_of(text):
    return "".join(letter for letter in text.lower() if letter.isalnum())[:60]


def legalbench(folder):
    for task in sorted(path for path in folder.iterdir() if (path / "base_prompt.txt").exists()):
        form = question_form((task / "base_prompt.txt").read_text(encoding="utf-8"))
        for name in ("train.tsv", "test.tsv"):
            with open(task / name, encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    text, answer = (row.get("text") or "").strip(), (row.get("label") or row.get("answer") or "").strip()
                    if text and answer:
                        yield conversation(document_of(text), form.replace("{{text}}", text), answer)


def write(path, conversations, characters):
    kept, left_out = [], 0
    for record in conversations:
        if sum(len(message["content"]) for message in record["messages"]) > characters:
            left_out += 1
        else:
            kept.append(json.dumps(record, ensure_ascii=False) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(kept), encoding="utf-8")
    documents = {json.loads(line)["document"] for line in kept}
    print(f"{path}: {len(kept)} conversations of {len(documents)} documents, {left_out} longer than {characters} characters left out")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tatqa", type=Path, required=True, help="folder with TAT-QA's dev and test files")
    parser.add_argument("--legalbench", type=Path, required=True, help="folder with one folder for each task")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--characters", type=int, default=1000)
    args = parser.parse_args()
    write(args.out / "finance" / "finance.jsonl", tatqa(args.tatqa), args.characters)
    write(args.out / "legal" / "legal.jsonl", legalbench(args.legalbench), args.characters)


if __name__ == "__main__":
    main()
